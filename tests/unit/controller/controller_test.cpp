// SPDX-License-Identifier: Apache-2.0
#include "common/tls/authority.h"
#include "tests/unit/controller/running_controller.h"

#include <fstream>
#include <sstream>
#include <thread>

namespace bulkhead::controller {
namespace {

class ControllerTest : public testing::Test {
protected:
    template <typename Call>
    grpc::StatusCode code_of(Call call)
    {
        grpc::ClientContext context;
        set_deadline(context);
        return call(&context).error_code();
    }
    grpc::StatusCode status_as(const ClientIdentity& identity)
    {
        const auto stub = v1::Admin::NewStub(controller.channel(identity));
        return code_of([&](auto* context) {
            v1::ControllerStatus reply;
            return stub->GetStatus(context, {}, &reply);
        });
    }
    grpc::StatusCode session_as(const ClientIdentity& identity)
    {
        AgentSession session(controller, {"", "", identity});
        session.hello({});
        v1::PolicyUpdate update;
        session.read(update);
        return session.finish().error_code();
    }
    std::vector<v1::Record> audit_records()
    {
        v1::RecordQuery query;
        query.mutable_filter()->add_kinds(v1::Record::AUDIT);
        grpc::ClientContext context;
        set_deadline(context);
        const auto reader = controller.admin()->QueryRecords(&context, query);
        std::vector<v1::Record> records;
        for (v1::RecordBatch batch; reader->Read(&batch);)
            records.insert(records.end(), batch.records().begin(), batch.records().end());
        EXPECT_TRUE(reader->Finish().ok());
        return records;
    }
    v1::WorkloadInfo workload(const std::string& name)
    {
        grpc::ClientContext context;
        set_deadline(context);
        v1::WorkloadList list;
        EXPECT_TRUE(controller.admin()->ListWorkloads(&context, {}, &list).ok());
        for (const auto& info : list.workloads())
            if (info.name() == name)
                return info;
        return {};
    }
    std::uint64_t version_in_force()
    {
        grpc::ClientContext context;
        set_deadline(context);
        v1::ControllerStatus reply;
        EXPECT_TRUE(controller.admin()->GetStatus(&context, {}, &reply).ok());
        return reply.policy_version();
    }

    RunningController controller;
};

TEST_F(ControllerTest, EachRoleReachesItsOwnHandlersAndNoOther)
{
    const auto agent = controller.enrol("web");
    EXPECT_EQ(status_as({}), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(status_as(agent.identity), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(status_as(controller.admin_identity()), grpc::StatusCode::OK);
    EXPECT_EQ(session_as({}), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_EQ(session_as(controller.admin_identity()), grpc::StatusCode::PERMISSION_DENIED);
    const auto stub = controller.agents({"", "", {}});
    grpc::ClientContext context;
    set_deadline(context);
    const auto ingest = stub->Ingest(&context);
    v1::IngestAck ack;
    EXPECT_FALSE(ingest->Read(&ack));
    EXPECT_EQ(ingest->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(ControllerTest, ACertificateOfAnotherAuthorityGetsNoConnection)
{
    const auto now = std::chrono::system_clock::now();
    const auto foreign = tls::make_authority(now, std::chrono::hours(1));
    const auto admin = tls::issue(*foreign, {"admin", "admin", {}, {}, now, std::chrono::hours(1)});
    EXPECT_EQ(status_as({admin->key_pem, admin->certificate_pem}), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ControllerTest, AnAgentThatTheControllerDoesNotKnowIsRefused)
{
    // Signed by our authority, as after a database was restored from an old backup.
    std::ifstream file(controller.config.state_dir + "/ca.pem");
    std::stringstream pem;
    pem << file.rdbuf();
    const auto now = std::chrono::system_clock::now();
    const auto ghost = tls::issue({pem.str(), pem.str()}, {"agent-ghost", "agent", {}, {}, now, std::chrono::hours(1)});
    ASSERT_TRUE(ghost) << ghost.error().message;
    EXPECT_EQ(session_as({ghost->key_pem, ghost->certificate_pem}), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(ControllerTest, EnrolmentAsksForAValidTokenNameAndRequest)
{
    EnrolledAgent agent;
    EXPECT_EQ(controller.try_enrol("guess", "web", {}, agent).error_code(), grpc::StatusCode::PERMISSION_DENIED);
    v1::CreateTokenRequest twice;
    twice.set_uses(2);
    twice.set_ttl_seconds(60);
    const auto secret = controller.token(twice);
    for (const auto* name : {"", "a b", "-x", "a/b", "a\n"})
        EXPECT_EQ(controller.try_enrol(secret, name, {}, agent).error_code(), grpc::StatusCode::PERMISSION_DENIED)
            << name;
    v1::EnrolRequest request;
    request.set_token_secret(secret);
    request.set_hostname("web");
    request.set_csr_pem("nonsense");
    EXPECT_EQ(code_of([&](auto* context) {
                  v1::EnrolReply reply;
                  return v1::Enrolment::NewStub(controller.channel({}))->Enrol(context, request, &reply);
              }),
              grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_TRUE(controller.try_enrol(secret, "web", {}, agent).ok()) << "failures have spent nothing";
    EXPECT_TRUE(controller.try_enrol(secret, "api", {}, agent).ok());
    EXPECT_EQ(controller.try_enrol(secret, "db", {}, agent).error_code(), grpc::StatusCode::PERMISSION_DENIED);

    const auto expiring = controller.token(twice);
    controller.clock.shift = 61;
    EXPECT_EQ(controller.try_enrol(expiring, "db", {}, agent).error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(ControllerTest, TokenLimitsAreChecked)
{
    const auto code = [&](std::uint64_t seconds, std::uint32_t uses, const std::string& key) {
        v1::CreateTokenRequest request;
        request.set_ttl_seconds(seconds);
        request.set_uses(uses);
        (*request.mutable_labels())[key] = "v";
        return code_of([&](auto* context) {
            v1::CreateTokenReply reply;
            return controller.admin()->CreateToken(context, request, &reply);
        });
    };
    EXPECT_EQ(code(60, 1, "k"), grpc::StatusCode::OK);
    EXPECT_EQ(code(1ULL << 62, 1, "k"), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(code(60, 4'000'000'000U, "k"), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(code(60, 1, "a b"), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ControllerTest, AHostThatEnrolsAgainShutsOutItsOldCertificate)
{
    const auto old = controller.enrol("web", {{"role", "web"}});
    {
        AgentSession session(controller, old);
        ASSERT_TRUE(session.hello({"10.0.0.1"}));
        v1::PolicyUpdate update;
        ASSERT_TRUE(session.read(update));
    }
    for (int i = 0; i < 500 && workload("web").connected(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const auto fresh = controller.enrol("web", {{"role", "web"}});
    EXPECT_EQ(session_as(old.identity), grpc::StatusCode::PERMISSION_DENIED);
    controller.restart();
    EXPECT_EQ(session_as(old.identity), grpc::StatusCode::PERMISSION_DENIED);
    AgentSession again(controller, fresh);
    ASSERT_TRUE(again.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    EXPECT_TRUE(again.read(update));
    EXPECT_EQ(workload("web").agent_id(), fresh.id);
}

TEST_F(ControllerTest, ATokenDoesNotMakeAHostOneThatIsConnected)
{
    const auto victim = controller.enrol("db", {{"role", "db"}});
    AgentSession session(controller, victim);
    ASSERT_TRUE(session.hello({"10.0.0.1"}));
    v1::PolicyUpdate update;
    ASSERT_TRUE(session.read(update));
    EnrolledAgent intruder;
    const auto status = controller.try_enrol(controller.token({}), "db", {}, intruder);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << status.error_message();
    EXPECT_EQ(workload("db").agent_id(), victim.id);
    EXPECT_TRUE(workload("db").connected());
}

TEST_F(ControllerTest, ARenewedCertificateIsTheSameAgents)
{
    const auto agent = controller.enrol("web");
    const auto pair = tls::make_key_and_request("anything");
    v1::RenewRequest request;
    request.set_csr_pem(pair->csr_pem);
    v1::EnrolReply reply;
    grpc::ClientContext context;
    set_deadline(context);
    ASSERT_TRUE(controller.agents(agent)->Renew(&context, request, &reply).ok());
    EXPECT_EQ(reply.agent_id(), agent.id);
    EXPECT_EQ(tls::inspect_certificate(reply.certificate_pem())->common_name, agent.id);
    AgentSession session(controller, {agent.id, "web", {pair->key_pem, reply.certificate_pem()}});
    ASSERT_TRUE(session.hello({}));
    v1::PolicyUpdate update;
    EXPECT_TRUE(session.read(update));
}

TEST_F(ControllerTest, AnInvalidPolicyChangesNothing)
{
    ASSERT_EQ(controller.apply(shop_policy).version(), 1U);
    const auto before = audit_records().size();
    for (const auto* text :
         {"", "version: 1\nsegment: x\nselector: {a: b}\nbogus: 1\n", "a: [",
          "version: 1\nservices: {web: [tcp/70000]}\n",
          "version: 1\nsegment: x\nselector: {a: b}\nallow:\n  - {id: i, from: {segment: nowhere}, service: ssh}\n"}) {
        const auto reply = controller.apply(text);
        EXPECT_FALSE(reply.diagnostics().empty()) << text;
        EXPECT_EQ(reply.version(), 0U);
    }
    EXPECT_EQ(version_in_force(), 1U);
    EXPECT_EQ(audit_records().size(), before);
}

TEST_F(ControllerTest, TheSamePolicyAgainIsNoNewVersion)
{
    EXPECT_FALSE(controller.apply(shop_policy).unchanged());
    const auto again = controller.apply(shop_policy);
    EXPECT_TRUE(again.unchanged());
    EXPECT_EQ(again.version(), 1U);
    controller.restart();
    EXPECT_TRUE(controller.apply(shop_policy).unchanged());
    EXPECT_EQ(controller.apply(std::string(shop_policy) + "# more\n").version(), 2U);
}

TEST_F(ControllerTest, APolicyCanBeReadBackInEveryVersion)
{
    const auto get = [&](std::uint64_t version, v1::GetPolicyReply& reply) {
        v1::GetPolicyRequest request;
        request.set_version(version);
        return code_of([&](auto* context) { return controller.admin()->GetPolicy(context, request, &reply); });
    };
    v1::GetPolicyReply reply;
    EXPECT_EQ(get(0, reply), grpc::StatusCode::NOT_FOUND);
    controller.apply(shop_policy);
    controller.apply(std::string(shop_policy) + "# second\n");
    ASSERT_EQ(get(0, reply), grpc::StatusCode::OK);
    EXPECT_EQ(reply.version(), 2U);
    EXPECT_EQ(reply.author(), "admin");
    ASSERT_EQ(get(1, reply), grpc::StatusCode::OK);
    EXPECT_EQ(reply.files(0).text(), shop_policy);
    EXPECT_EQ(get(3, reply), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ControllerTest, WorkloadsShowLabelsSegmentsAndWhereTheyComeFrom)
{
    controller.enrol("db", {{"app", "shop"}});
    controller.apply(shop_policy);
    v1::LabelWorkloadRequest request;
    request.set_name("db");
    (*request.mutable_set())["role"] = "db";
    v1::WorkloadInfo info;
    ASSERT_EQ(code_of([&](auto* context) { return controller.admin()->LabelWorkload(context, request, &info); }),
              grpc::StatusCode::OK);
    EXPECT_EQ(info.segments(0), "shop-db");
    EXPECT_EQ(info.label_sources().at("role"), "admin");
    EXPECT_EQ(info.label_sources().at("app"), "token");
    EXPECT_NE(info.identity(), 0U);
    const auto identity = info.identity();
    controller.restart();
    EXPECT_EQ(workload("db").identity(), identity) << "numbers stay";
    EXPECT_EQ(workload("db").labels().at("role"), "db");
    request.set_name("nobody");
    EXPECT_EQ(code_of([&](auto* context) { return controller.admin()->LabelWorkload(context, request, &info); }),
              grpc::StatusCode::NOT_FOUND);
}

TEST_F(ControllerTest, SegmentsAreShownInTheWordsOfTheirDocument)
{
    controller.apply(shop_policy);
    v1::SegmentList list;
    ASSERT_EQ(code_of([&](auto* context) { return controller.admin()->ListSegments(context, {}, &list); }),
              grpc::StatusCode::OK);
    ASSERT_EQ(list.segments_size(), 2);
    const auto& db = list.segments(1);
    EXPECT_EQ(db.name(), "shop-db");
    EXPECT_EQ(db.mode(), "enforce");
    EXPECT_EQ(db.selector(), "app=shop,role=db");
    ASSERT_EQ(db.rule_size(), 1);
    EXPECT_EQ(db.rule(0).from(), "segment shop-api");
    EXPECT_EQ(db.rule(0).to(), "segment shop-db");
    EXPECT_EQ(db.rule(0).services(), "tcp/5432");
}

TEST_F(ControllerTest, EveryActOfAnAdminIsAudited)
{
    controller.enrol("db");
    controller.apply(shop_policy);
    v1::LabelWorkloadRequest request;
    request.set_name("db");
    (*request.mutable_set())["role"] = "db";
    v1::WorkloadInfo info;
    ASSERT_EQ(code_of([&](auto* context) { return controller.admin()->LabelWorkload(context, request, &info); }),
              grpc::StatusCode::OK);
    std::vector<std::string> acts;
    std::uint64_t seq = 0;
    for (const auto& record : audit_records()) {
        acts.push_back(record.audit().actor() + " " + record.audit().action());
        EXPECT_EQ(record.agent_id(), "controller");
        EXPECT_EQ(record.seq(), ++seq);
    }
    EXPECT_EQ(acts, (std::vector<std::string>{"controller admin.certificate", "admin token.create", "db agent.enrol",
                                              "admin policy.apply", "admin workload.label"}));
}

TEST(ControllerCertificate, ARenewedOneIsServedWithoutARestart)
{
    RunningController controller(-std::chrono::hours(24 * 300));
    const auto fingerprint_on_disk = [&controller] {
        std::ifstream stream(controller.config.state_dir + "/controller.crt");
        std::stringstream text;
        text << stream.rdbuf();
        return tls::certificate_fingerprint(text.str()).value_or("");
    };
    const auto served = [&controller] {
        grpc::ClientContext context;
        set_deadline(context);
        v1::ControllerStatus reply;
        const auto status = controller.admin()->GetStatus(&context, {}, &reply);
        EXPECT_TRUE(status.ok()) << status.error_message();
        const auto auth = context.auth_context();
        const auto pem = auth ? auth->FindPropertyValues("x509_pem_cert") : std::vector<grpc::string_ref>();
        return pem.empty() ? "" : tls::certificate_fingerprint(std::string(pem[0].data(), pem[0].size())).value_or("");
    };
    const auto first = fingerprint_on_disk();
    EXPECT_EQ(served(), first);
    controller.clock.shift = 0;
    controller.controller().look_after_certificate();
    const auto renewed = fingerprint_on_disk();
    ASSERT_NE(renewed, first);
    // The server looks at its files once a second.
    for (int i = 0; i < 100 && served() != renewed; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_EQ(served(), renewed);
}

TEST_F(ControllerTest, ASecondControllerOnTheSameStateOrPortDoesNotStart)
{
    EXPECT_FALSE(Controller::start(controller.config, controller.clock));
    auto other = controller.config;
    other.state_dir = controller.dir.file("other");
    other.grpc_listen = fmt::format("127.0.0.1:{}", controller.controller().port());
    const auto started = Controller::start(other, controller.clock);
    ASSERT_FALSE(started);
    EXPECT_NE(started.error().message.find("cannot listen"), std::string::npos) << started.error().message;
}

} // namespace
} // namespace bulkhead::controller
