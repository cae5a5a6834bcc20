// Who makes a call. Found once per call by authentication, before anything of the request is read, and handed to
// whatever translates it. A plain value: any thread may copy and read it.
#ifndef NIBBLE_SERVER_CALLER_H_
#define NIBBLE_SERVER_CALLER_H_

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "scheduler/tenant_terms.h"

namespace nibble::server {

struct Caller {
  std::string tenant;                                          // "" when anonymous: the daemon has no tenants file
  bool admin = false;                                          // may call the methods that act for all tenants
  std::optional<std::set<std::string, std::less<>>> adapters;  // that it may name; absent: all
  sched::TenantTerms terms;

  // What a caller may not use does not exist for it: answer as for a name that nobody has.
  bool MayUseAdapter(std::string_view name) const { return !adapters.has_value() || adapters->contains(name); }
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_CALLER_H_
