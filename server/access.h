// Which methods there are and who may call them. What is not in the table is denied.
#ifndef NIBBLE_SERVER_ACCESS_H_
#define NIBBLE_SERVER_ACCESS_H_

#include <optional>
#include <string_view>

namespace nibble::server {

enum class Access {
  kOpen,      // anyone, without credentials
  kTenant,    // any tenant; without a tenants file, anyone
  kOperator,  // acts for all tenants: admins; without a tenants file there is but one, so anyone
  kAdmin,     // admins; without a tenants file, nobody
};

// `method` as registered: "/nibble.v1.Inference/Generate". Any thread.
std::optional<Access> AccessTo(std::string_view method);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_ACCESS_H_
