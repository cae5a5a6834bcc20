#include "loadtest/mix.h"

#include <algorithm>
#include <functional>
#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "loadtest/random.h"

namespace nibble::loadtest {
namespace {

// Numbers of the streams; those of the workloads count up from 0.
constexpr uint64_t kAdapterStream = ~uint64_t{0};
constexpr uint64_t kTenantStream = ~uint64_t{1};
constexpr uint64_t kStallStream = ~uint64_t{2};

// Draws once a conversation.
void Draw(const std::vector<double>& weights, std::mt19937_64 random, const std::vector<Request>& requests,
          const std::function<void(size_t request, size_t drawn)>& assign) {
  std::discrete_distribution<size_t> distribution(weights.begin(), weights.end());
  std::vector<size_t> drawn(requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    drawn[i] = requests[i].follows >= 0 ? drawn[requests[i].follows] : distribution(random);
    assign(i, drawn[i]);
  }
}

absl::StatusOr<Tenant> ParseTenant(const std::string& line) {
  const std::vector<std::string> words = absl::StrSplit(line, absl::ByAnyChar(" \t\r"), absl::SkipEmpty());
  if (words.size() != 3) return absl::InvalidArgumentError("must be NAME KEY SHARE");
  Tenant tenant{words[0], words[1], 0};
  const bool reads = absl::SimpleAtod(words[2], &tenant.share);
  if (!reads || !(tenant.share > 0 && tenant.share <= 1e6)) {
    return absl::InvalidArgumentError("the share must be above 0 and at most 1000000");
  }
  return tenant;
}

}  // namespace

void AssignAdapters(const Adapters& adapters, uint64_t seed, std::vector<Request>& requests) {
  if (adapters.names.empty()) return;
  std::vector<double> weights;
  for (size_t i = 0; i < adapters.names.size(); ++i) {
    weights.push_back(adapters.zipf ? 1 / static_cast<double>(i + 1) : 1);
  }
  Draw(weights, RandomOf(seed, kAdapterStream), requests,
       [&](size_t request, size_t drawn) { requests[request].adapter = adapters.names[drawn]; });
}

absl::StatusOr<std::vector<Tenant>> ParseTenants(std::istream& lines, const std::string& name) {
  std::vector<Tenant> tenants;
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    const size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos || line[begin] == '#') continue;
    absl::StatusOr<Tenant> tenant = ParseTenant(line);
    if (!tenant.ok())
      return absl::InvalidArgumentError(absl::StrCat(name, ":", number, ": ", tenant.status().message()));
    const auto same_name = [&tenant](const Tenant& other) { return other.name == tenant->name; };
    if (std::any_of(tenants.begin(), tenants.end(), same_name)) {
      return absl::InvalidArgumentError(absl::StrCat(name, ":", number, ": ", tenant->name, " stands there twice"));
    }
    tenants.push_back(*std::move(tenant));
  }
  if (tenants.empty()) return absl::InvalidArgumentError(absl::StrCat(name, ": has no tenants"));
  return tenants;
}

void AssignTenants(const std::vector<Tenant>& tenants, uint64_t seed, std::vector<Request>& requests) {
  if (tenants.empty()) return;
  std::vector<double> weights;
  for (const Tenant& tenant : tenants) weights.push_back(tenant.share);
  Draw(weights, RandomOf(seed, kTenantStream), requests, [&](size_t request, size_t drawn) {
    requests[request].tenant = tenants[drawn].name;
    requests[request].key = tenants[drawn].key;
  });
}

void AssignStalls(const Stalls& stalls, uint64_t seed, std::vector<Request>& requests) {
  std::mt19937_64 random = RandomOf(seed, kStallStream);
  std::bernoulli_distribution stalled(stalls.rate);
  for (Request& request : requests) {
    if (!stalled(random) || request.cancel_after >= 0) continue;
    request.stall_after = std::uniform_int_distribution<int64_t>(0, request.output_tokens - 1)(random);
    request.stall_time = stalls.time;
  }
}

}  // namespace nibble::loadtest
