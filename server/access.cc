#include "server/access.h"

#include <utility>

namespace nibble::server {
namespace {

// Reflection is not here: it is served only where there is no tenants file (grpc_server.cc).
constexpr std::pair<std::string_view, Access> kAccess[] = {
    {"/grpc.health.v1.Health/Check", Access::kOpen},
    {"/grpc.health.v1.Health/Watch", Access::kOpen},
    {"/inference.GRPCInferenceService/ModelConfig", Access::kTenant},
    {"/inference.GRPCInferenceService/ModelInfer", Access::kTenant},
    {"/inference.GRPCInferenceService/ModelMetadata", Access::kTenant},
    {"/inference.GRPCInferenceService/ModelReady", Access::kTenant},
    {"/inference.GRPCInferenceService/ModelStatistics", Access::kOperator},
    {"/inference.GRPCInferenceService/ModelStreamInfer", Access::kTenant},
    {"/inference.GRPCInferenceService/ServerLive", Access::kTenant},
    {"/inference.GRPCInferenceService/ServerMetadata", Access::kTenant},
    {"/inference.GRPCInferenceService/ServerReady", Access::kTenant},
    {"/nibble.v1.Adapters/List", Access::kAdmin},
    {"/nibble.v1.Adapters/Load", Access::kAdmin},
    {"/nibble.v1.Adapters/Unload", Access::kAdmin},
    {"/nibble.v1.Inference/Detokenize", Access::kTenant},
    {"/nibble.v1.Inference/Generate", Access::kTenant},
    {"/nibble.v1.Inference/GetModel", Access::kTenant},
    {"/nibble.v1.Inference/ListModels", Access::kTenant},
    {"/nibble.v1.Inference/Tokenize", Access::kTenant},
    {"/vllm.grpc.engine.VllmEngine/Abort", Access::kTenant},
    {"/vllm.grpc.engine.VllmEngine/FlushCache", Access::kOperator},
    {"/vllm.grpc.engine.VllmEngine/Generate", Access::kTenant},
    {"/vllm.grpc.engine.VllmEngine/GetLoads", Access::kOperator},
    {"/vllm.grpc.engine.VllmEngine/GetModelInfo", Access::kTenant},
    {"/vllm.grpc.engine.VllmEngine/GetServerInfo", Access::kOperator},
    {"/vllm.grpc.engine.VllmEngine/GetTokenizer", Access::kTenant},
    {"/vllm.grpc.engine.VllmEngine/HealthCheck", Access::kTenant},
    {"/vllm.grpc.engine.VllmEngine/SubscribeKvEvents", Access::kOperator},
};

}  // namespace

std::optional<Access> AccessTo(std::string_view method) {
  for (const auto& [name, access] : kAccess) {
    if (name == method) return access;
  }
  return std::nullopt;
}

}  // namespace nibble::server
