// Memory that requests together may claim beforehand. Any thread.
#ifndef NIBBLE_SERVER_MEMORY_BUDGET_H_
#define NIBBLE_SERVER_MEMORY_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <utility>

namespace nibble::server {

class MemoryBudget {
 public:
  explicit MemoryBudget(int64_t bytes) : free_bytes_(bytes) {}

  // What one request holds of the budget; gives it back when destroyed.
  class Claim {
   public:
    Claim() = default;
    Claim(MemoryBudget* budget, int64_t bytes) : budget_(budget), bytes_(bytes) {}
    Claim(Claim&& other) noexcept { *this = std::move(other); }
    Claim& operator=(Claim&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Claim() {
      if (budget_ != nullptr) budget_->free_bytes_ += bytes_;
    }

   private:
    MemoryBudget* budget_ = nullptr;
    int64_t bytes_ = 0;
  };

  // False, and `claim` untouched, where less than `bytes` is left.
  bool TryClaim(int64_t bytes, Claim* claim) {
    int64_t free_bytes = free_bytes_.load();
    do {
      if (free_bytes < bytes) return false;
    } while (!free_bytes_.compare_exchange_weak(free_bytes, free_bytes - bytes));
    *claim = Claim(this, bytes);
    return true;
  }

 private:
  std::atomic<int64_t> free_bytes_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_MEMORY_BUDGET_H_
