// Early return on a Status that is not OK. Debian's Abseil ships none of these.
#ifndef NIBBLE_KVCACHE_BASE_STATUS_MACROS_H_
#define NIBBLE_KVCACHE_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define NIBBLE_RETURN_IF_ERROR(expression)                                                    \
  do {                                                                                        \
    if (absl::Status nibble_status = (expression); !nibble_status.ok()) return nibble_status; \
  } while (false)

#define NIBBLE_STATUS_CONCAT_INNER(a, b) a##b
#define NIBBLE_STATUS_CONCAT(a, b) NIBBLE_STATUS_CONCAT_INNER(a, b)

// NIBBLE_ASSIGN_OR_RETURN(auto file, OpenFile(path));
#define NIBBLE_ASSIGN_OR_RETURN(declaration, expression) \
  NIBBLE_ASSIGN_OR_RETURN_INNER(NIBBLE_STATUS_CONCAT(nibble_status_or_, __LINE__), declaration, expression)
#define NIBBLE_ASSIGN_OR_RETURN_INNER(temporary, declaration, expression) \
  auto temporary = (expression);                                          \
  if (!temporary.ok()) return temporary.status();                         \
  declaration = *std::move(temporary)

#endif  // NIBBLE_KVCACHE_BASE_STATUS_MACROS_H_
