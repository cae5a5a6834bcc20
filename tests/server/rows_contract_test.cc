// Row 13 of the robustness table: nothing that a client may send is a chat template, or arguments for one. Asked of the
// contracts of every service that the daemon registers, message by message and field by field.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/text_format.h>
#include <grpcpp/generic/generic_stub.h>

#include <future>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "server/wire.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using testing::Contains;
using testing::IsEmpty;
using testing::IsSupersetOf;

// Full names of the fields of a message and of all that it may hold.
void CollectFields(const Descriptor* message, std::set<const Descriptor*>& seen, std::vector<std::string>& names) {
  if (!seen.insert(message).second) return;
  for (int i = 0; i < message->field_count(); ++i) {
    const FieldDescriptor* const field = message->field(i);
    names.push_back(field->full_name());
    if (field->message_type() != nullptr) CollectFields(field->message_type(), seen, names);
  }
  EXPECT_EQ(message->extension_range_count(), 0) << message->full_name() << " may hold what no contract names";
  EXPECT_NE(message->file()->package(), "google.protobuf") << message->full_name() << " may hold anything";
}

std::vector<std::string> FieldsOf(const Descriptor* message) {
  std::set<const Descriptor*> seen;
  std::vector<std::string> names;
  CollectFields(message, seen, names);
  return names;
}

// Of `names`, those that would let a client say how its messages become a prompt.
std::vector<std::string> TemplatesAmong(const std::vector<std::string>& names) {
  std::vector<std::string> found;
  for (const std::string& name : names) {
    const std::string field = absl::AsciiStrToLower(name.substr(name.rfind('.') + 1));
    for (const char* word : {"template", "jinja", "kwargs"}) {
      if (absl::StrContains(field, word)) found.push_back(name);
    }
  }
  return found;
}

class ServerRowsContract : public ServerFixture {
 protected:
  // Names of the services that are registered, as reflection tells them.
  std::vector<std::string> Services() {
    const auto request = New("grpc.reflection.v1alpha.ServerReflectionRequest");
    const auto response = New("grpc.reflection.v1alpha.ServerReflectionResponse");
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString("list_services: '*'", request.get()));
    Call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", *request, response.get());
    const auto& list = Submessage(*response, "list_services_response");
    const FieldDescriptor* const services = list.GetDescriptor()->FindFieldByName("service");
    std::vector<std::string> names;
    for (int i = 0; i < list.GetReflection()->FieldSize(list, services); ++i) {
      const auto& service = list.GetReflection()->GetRepeatedMessage(list, services, i);
      const FieldDescriptor* const name = service.GetDescriptor()->FindFieldByName("name");
      names.push_back(service.GetReflection()->GetString(service, name));
    }
    return names;
  }

 private:
  using Message = google::protobuf::Message;

  // The types of reflection are linked, but their header is not installed.
  static std::unique_ptr<Message> New(const std::string& type) {
    const Descriptor* const descriptor = DescriptorPool::generated_pool()->FindMessageTypeByName(type);
    return std::unique_ptr<Message>(
        google::protobuf::MessageFactory::generated_factory()->GetPrototype(descriptor)->New());
  }
  static const Message& Submessage(const Message& message, const std::string& field) {
    return message.GetReflection()->GetMessage(message, message.GetDescriptor()->FindFieldByName(field));
  }
  void Call(const std::string& path, const Message& request, Message* response) {
    grpc::GenericStub stub(NewChannel());
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(30)));
    const grpc::ByteBuffer sent = SerializeMessage(request);
    grpc::ByteBuffer received;
    std::promise<grpc::Status> done;
    stub.UnaryCall(&context, path, grpc::StubOptions(), &sent, &received,
                   [&done](grpc::Status status) { done.set_value(std::move(status)); });
    ASSERT_TRUE(done.get_future().get().ok());
    ASSERT_TRUE(ParseMessage(received, response).ok());
  }
};

TEST_F(ServerRowsContract, Row13_NoFieldTakesATemplateOrItsArguments) {
  const std::vector<std::string> services = Services();
  EXPECT_THAT(services, IsSupersetOf({"nibble.v1.Inference", "nibble.v1.Adapters", "vllm.grpc.engine.VllmEngine",
                                      "inference.GRPCInferenceService"}));
  std::vector<std::string> fields;
  for (const std::string& name : services) {
    const auto* const service = DescriptorPool::generated_pool()->FindServiceByName(name);
    ASSERT_NE(service, nullptr) << name;
    for (int i = 0; i < service->method_count(); ++i) {
      const std::vector<std::string> of_method = FieldsOf(service->method(i)->input_type());
      fields.insert(fields.end(), of_method.begin(), of_method.end());
    }
  }
  EXPECT_THAT(fields, Contains("nibble.v1.ChatMessage.content"));
  EXPECT_THAT(fields, Contains("vllm.grpc.engine.SamplingParams.logit_bias"));
  EXPECT_THAT(TemplatesAmong(fields), IsEmpty());
}

// The walk finds them where there are any: inside a repeated message, as a value of a map, and through a cycle.
TEST(ServerRowsContractControl, Row13_TemplatesAreFoundWhereThereAreAny) {
  google::protobuf::FileDescriptorProto file;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(R"(
      name: "control.proto" syntax: "proto3"
      message_type { name: "Request"
                     field { name: "turns" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: ".Turn" } }
      message_type { name: "Turn"
                     field { name: "parent" number: 1 type: TYPE_MESSAGE type_name: ".Request" }
                     field { name: "chat_template" number: 2 type: TYPE_STRING }
                     field { name: "options" number: 3 label: LABEL_REPEATED type: TYPE_MESSAGE
                             type_name: ".Turn.OptionsEntry" }
                     nested_type { name: "OptionsEntry" options { map_entry: true }
                                   field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
                                   field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE
                                           type_name: ".Option" } } }
      message_type { name: "Option" field { name: "templateKwargs" number: 1 type: TYPE_STRING } })",
                                                            &file));
  DescriptorPool pool;
  const auto* const built = pool.BuildFile(file);
  ASSERT_NE(built, nullptr);
  const std::vector<std::string> fields = FieldsOf(built->FindMessageTypeByName("Request"));
  EXPECT_THAT(TemplatesAmong(fields), Contains("Turn.chat_template"));
  EXPECT_THAT(TemplatesAmong(fields), Contains("Option.templateKwargs"));
  EXPECT_THAT(TemplatesAmong({"Request.turns", "template.Request.text"}), IsEmpty());
}

}  // namespace
}  // namespace nibble::server
