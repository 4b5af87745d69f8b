// SPDX-License-Identifier: Apache-2.0
#include "common/policy/parse.h"

#include <gtest/gtest.h>

#include <ostream>

namespace bulkhead::policy {
namespace {

// One mistake: the text, and what is said about it ("line:column: message"), in order.
struct Mistake {
    const char* name;
    std::string text;
    std::vector<std::string> said;
    const char* mend = ""; // some of the first one's mend
};

void PrintTo(const Mistake& mistake, std::ostream* out)
{
    *out << mistake.name;
}

std::string said(const Diagnostic& diagnostic)
{
    return std::to_string(diagnostic.where.line) + ":" + std::to_string(diagnostic.where.column) + ": " +
           diagnostic.message;
}

std::vector<std::string> complaints(const std::string& text)
{
    const SourceFile file{"p.yaml", text};
    std::vector<std::string> result;
    for (const auto& diagnostic : parse({&file, 1}).diagnostics) {
        EXPECT_EQ(*diagnostic.where.file, "p.yaml");
        result.push_back(said(diagnostic));
    }
    return result;
}

// A segment whose first rule's line is 6.
std::string with_rule(const std::string& rule)
{
    return "version: 1\nsegment: web\nselector: {app: shop}\nmode: test\nallow:\n" + rule + "\n";
}

std::string with_service(const std::string& service)
{
    return with_rule("  - {id: r, from: any, service: " + service + "}");
}

std::string with_line(const std::string& line)
{
    return "version: 1\nsegment: web\nselector: {app: shop}\n" + line + "\n";
}

class ParseMistake : public testing::TestWithParam<Mistake> {};

TEST_P(ParseMistake, IsSaidWithItsPlaceAndItsMend)
{
    const auto& mistake = GetParam();
    const SourceFile file{"p.yaml", mistake.text};
    const auto outcome = parse({&file, 1});
    EXPECT_FALSE(outcome.ok());
    EXPECT_EQ(complaints(mistake.text), mistake.said);
    ASSERT_FALSE(outcome.diagnostics.empty());
    EXPECT_NE(outcome.diagnostics[0].mend.find(mistake.mend), std::string::npos) << outcome.diagnostics[0].mend;
}

const std::vector<Mistake> document_mistakes{
    {"EmptyFile", "", {"1:1: there is nothing in this file"}, "write a policy"},
    {"OnlyComments", "# later\n\n", {"1:1: there is nothing in this file"}},
    {"EmptyDocument", "version: 1\nservices: {a: [tcp/1]}\n---\n", {"3:1: there is nothing in this document"}},
    {"OnlyVersion", "version: 1\n", {"1:1: there is nothing in this document"}},
    {"NoVersion", "services: {a: [tcp/1]}\n", {"1:1: a document without 'version'"}, "version: 1"},
    {"OtherVersion", "version: 2\nservices: {a: [tcp/1]}\n", {"1:10: version '2' is not known"}, "version: 1"},
    {"NotAMap", "- a\n- b\n", {"1:1: a document must be a map"}, "version: 1"},
    {"UnknownKey", with_line("sesions: cut"), {"4:1: unknown key 'sesions' in a segment"}, "did you mean 'sessions'?"},
    {"UnknownKeyOfDefinitions",
     "version: 1\nservice: {a: [tcp/1]}\nservices: {b: [tcp/2]}\n",
     {"2:1: unknown key 'service' in a document"},
     "did you mean 'services'?"},
    {"MixedKinds",
     with_line("services: {a: [tcp/1]}"),
     {"4:11: services, addresses and workloads cannot stand in a segment's document"},
     "---"},
    {"Expect", with_line("expect: []"), {"4:1: 'expect' is not in this version of Bulkhead"}, "remove it"},
    {"ExpectAlone", "version: 1\nexpect: []\n", {"2:1: 'expect' is not in this version of Bulkhead"}},
    {"BadMode", with_line("mode: enforced"), {"4:7: 'mode' cannot be 'enforced'"}, "observe, test, enforce"},
    {"BadDefault", with_line("inbound: block"), {"4:10: 'inbound' cannot be 'block'"}, "allow, deny"},
    {"BadSessions", with_line("sessions: kill"), {"4:11: 'sessions' cannot be 'kill'"}, "drain 60s"},
    {"BadDuration", with_line("sessions: drain 5"), {"4:11: 'drain 5' does not say for how long"}, "drain 60s"},
    {"NoDuration", with_line("sessions: drain"), {"4:11: 'drain' does not say for how long"}},
    {"ZeroDuration", with_line("sessions: drain 0s"), {"4:11: 'drain 0s' does not say for how long"}},
    {"HugeDuration",
     with_line("sessions: drain 99999999999999999999h"),
     {"4:11: 'drain 99999999999999999999h' does not say for how long"}},
    {"WrongType", with_line("mode: [test]"), {"4:7: 'mode' must be text, not a list"}},
    {"NoValue", with_line("owner:"), {"4:1: 'owner' has no value"}},
    {"EmptySelector",
     "version: 1\nsegment: web\nselector: {}\n",
     {"3:11: 'selector' selects nothing in particular"},
     "\"*\""},
    {"NullSelector",
     "version: 1\nsegment: web\nselector:\nmode: test\n",
     {"3:1: 'selector' selects nothing in particular"}},
    {"NoSelector",
     "version: 1\nsegment: web\n",
     {"1:1: a segment without 'selector'"},
     "selector: {app: shop, role: db}"},
    {"EmptySelectorValues", "version: 1\nsegment: web\nselector: {app: []}\n", {"3:17: label 'app' is an empty list"}},
    {"StarInList", "version: 1\nsegment: web\nselector: {app: [a, \"*\"]}\n", {"3:21: \"*\" in a list"}, "app: \"*\""},
    {"BadLabelKey", "version: 1\nsegment: web\nselector: {\"a b\": c}\n", {"3:12: 'a b' cannot be the key of a label"}},
    {"BadLabelValue",
     "version: 1\nsegment: web\nselector: {a: \"b,c=d\"}\n",
     {"3:15: 'b,c=d' cannot be the value of a label"}},
    {"NoSegmentName", "version: 1\nselector: {a: b}\n", {"1:1: rules and settings of a segment without its name"}},
    {"BadSegmentName", "version: 1\nsegment: a/b\nselector: {a: b}\n", {"2:10: 'segment' 'a/b' is not a name"}},
    {"ReservedSegmentName",
     "version: 1\nsegment: failsafe\nselector: {a: b}\n",
     {"2:10: 'failsafe' has a meaning of its own and cannot be a segment's name"}},
    {"DuplicateKey", with_line("mode: test\nmode: enforce"), {"5:1: 'mode' is given twice; first on line 4"}},
    {"DuplicateSegment",
     with_line("---\nversion: 1\nsegment: web\nselector: {a: b}"),
     {"6:10: segment 'web' is given twice; first at p.yaml:2:10"}},
    {"ReservedService",
     "version: 1\nservices: {any: [tcp/1]}\n",
     {"2:12: 'any' has a meaning of its own and cannot be defined"}},
    {"DuplicateService",
     "version: 1\nservices: {a: [tcp/1]}\n---\nversion: 1\nservices: {a: [tcp/2]}\n",
     {"5:12: service 'a' is given twice; first at p.yaml:2:12"}},
    {"ServiceOfService", "version: 1\nservices: {a: [tcp/1], b: [a]}\n", {"2:28: service 'a' is not known"}},
    {"EmptyService", "version: 1\nservices: {a: []}\n", {"2:15: service 'a' is an empty list"}},
    {"NoServices", "version: 1\nservices: {}\n", {"2:11: 'services' defines nothing"}},
    {"EmptyAddresses", "version: 1\naddresses: {a: []}\n", {"2:16: address group 'a' is an empty list"}},
    {"WorkloadWithoutName", "version: 1\nworkloads: [{ip: 10.0.0.1}]\n", {"2:13: a workload without 'name'"}},
    {"WorkloadWithRange",
     "version: 1\nworkloads: [{name: a, ip: 10.0.0.0/8}]\n",
     {"2:27: '10.0.0.0/8' is not an address"}},
    {"DuplicateWorkload",
     "version: 1\nworkloads: [{name: a}, {name: a}]\n",
     {"2:31: workload 'a' is given twice; first at p.yaml:2:20"}},
    {"AddressOfTwo",
     "version: 1\nworkloads: [{name: a, ip: 10.0.0.1}, {name: b, ip: \"::ffff:10.0.0.1\"}]\n",
     {"2:45: address 10.0.0.1 is given twice; first to 'a' at p.yaml:2:20"}},
};

const std::vector<Mistake> rule_mistakes{
    {"UnknownSegment",
     with_rule("  - {id: r, from: {segment: wbe}, service: ssh}"),
     {"6:29: segment 'wbe' is not known"},
     "did you mean 'web'?"},
    {"UnknownGroup",
     with_rule("  - {id: r, from: {addresses: office}, service: ssh}"),
     {"6:31: address group 'office' is not known"},
     "define it"},
    {"UnknownWorkload",
     with_rule("  - {id: r, from: {workload: legacy}, service: ssh}"),
     {"6:30: workload 'legacy' is not known"},
     "declare it"},
    {"UnknownService",
     with_service("postgress"),
     {"6:33: service 'postgress' is not known"},
     "did you mean 'postgres'?"},
    {"DuplicateId",
     with_rule("  - {id: r, from: any, service: ssh}\n  - {id: r, to: any, service: ssh}"),
     {"7:5: id 'r' is given twice; first at p.yaml:6:5"}},
    {"ReservedId",
     with_rule("  - {id: default-inbound, from: any, service: ssh}"),
     {"6:10: 'default-inbound' is how records call the segment's default"}},
    {"NoId", with_rule("  - {from: any, service: ssh}"), {"6:5: a rule without 'id'"}},
    {"NoService", with_rule("  - {id: r, from: any}"), {"6:5: a rule without 'service'"}, "any"},
    {"NoSide", with_rule("  - {id: r, service: ssh}"), {"6:5: a rule needs 'from' or 'to'"}},
    {"BothSides",
     with_rule("  - {id: r, from: any, to: any, service: ssh}"),
     {"6:28: a rule with both 'from' and 'to'"},
     "leave that side out"},
    {"EmptyPeer", with_rule("  - {id: r, from: {}, service: ssh}"), {"6:19: 'from' names nobody"}, "from: any"},
    {"BarePeer", with_rule("  - {id: r, from: api, service: ssh}"), {"6:19: 'from' cannot be 'api'"}, "{segment: api}"},
    {"TwoPeers",
     with_rule("  - {id: r, from: {segment: web, workload: x}, service: ssh}"),
     {"6:34: 'from' names peers in 2 ways"}},
    {"HostBits",
     with_rule("  - {id: r, from: {cidr: 10.0.0.5/24}, service: ssh}"),
     {"6:26: 10.0.0.5/24 has bits set after the prefix"},
     "write 10.0.0.0/24, or 10.0.0.5"},
    {"HostBitsV6",
     with_rule("  - {id: r, from: {cidr: [\"2001:db8::1/64\"]}, service: ssh}"),
     {"6:27: 2001:db8::1/64 has bits set after the prefix"},
     "write 2001:db8::/64"},
    {"HostBitsMapped",
     with_rule("  - {id: r, from: {cidr: [\"::ffff:10.0.0.5/120\"]}, service: ssh}"),
     {"6:27: ::ffff:10.0.0.5/120 has bits set after the prefix"},
     "write 10.0.0.0/24"},
    {"LongPrefix",
     with_rule("  - {id: r, from: {cidr: 10.0.0.0/33}, service: ssh}"),
     {"6:26: '10.0.0.0/33' has no good prefix length"},
     "0 to 32"},
    {"NoAddress",
     with_rule("  - {id: r, from: {cidr: example.org}, service: ssh}"),
     {"6:26: 'example.org' is neither an address nor a CIDR"}},
    {"EmptyCidrs", with_rule("  - {id: r, from: {cidr: []}, service: ssh}"), {"6:26: 'cidr' is an empty list"}},
    {"CidrTwice",
     with_rule("  - {id: r, from: {cidr: [10.0.0.0/8, 10.0.0.0/8]}, service: ssh}"),
     {"6:39: '10.0.0.0/8' is listed twice in 'cidr'"}},
    {"EmptyLabels",
     with_rule("  - {id: r, from: {labels: {}}, service: ssh}"),
     {"6:28: 'labels' selects nothing in particular"}},
    {"Fqdn",
     with_rule("  - {id: r, to: {fqdn: [example.org]}, service: https}"),
     {"6:18: 'fqdn' is not in this version of Bulkhead"}},
    {"ExpiresOnADay",
     with_rule("  - {id: r, from: any, service: ssh, expires: 2026-12-01}"),
     {"6:47: '2026-12-01' is not an instant"},
     "2026-12-01T18:00:00Z"},
    {"ExpiresWithoutOffset",
     with_rule("  - {id: r, from: any, service: ssh, expires: 2026-12-01T18:00:00}"),
     {"6:47: '2026-12-01T18:00:00' is not an instant"}},
    {"ExpiresInAnImpossibleHour",
     with_rule("  - {id: r, from: any, service: ssh, expires: 2026-12-01T25:00:00Z}"),
     {"6:47: '2026-12-01T25:00:00Z' is not an instant"}},
    {"ExpiresTooLate",
     with_rule("  - {id: r, from: any, service: ssh, expires: 9999-12-01T18:00:00Z}"),
     {"6:47: 'expires' cannot be '9999-12-01T18:00:00Z'"},
     "1970 to 2254"},
    {"ExpiresEmpty", with_rule("  - {id: r, from: any, service: ssh, expires: }"), {"6:38: 'expires' has no value"}},
    {"PeerProcess",
     with_rule("  - {id: r, from: any, service: ssh, peer_process: {exe: /a}}"),
     {"6:38: 'peer_process' is not in this version of Bulkhead"}},
    {"IcmpTypeUnknown",
     with_service("icmp/ecco"),
     {"6:33: 'ecco' in 'icmp/ecco' is not a type of ICMP"},
     "did you mean 'echo'?"},
    {"IcmpTypeOfTheOtherFamily",
     with_service("icmpv6/timestamp"),
     {"6:33: 'timestamp' in 'icmpv6/timestamp' is not a type of ICMP"}},
    {"IcmpTypeMissing", with_service("icmp/"), {"6:33: '' in 'icmp/' is not a type of ICMP"}, "icmp/8"},
    {"IcmpTypeTooLarge", with_service("icmp/256"), {"6:33: type 256 is larger than 255"}},
    {"IcmpTypesBackwards", with_service("icmpv6/5-2"), {"6:33: the range 5-2 goes backwards"}, "2-5"},
    {"ProtocolNumberTooLarge", with_service("proto/256"), {"6:33: protocol 256 is larger than 255"}},
    {"ProtocolUnknown",
     with_service("proto/grr"),
     {"6:33: 'grr' in 'proto/grr' is not a protocol"},
     "did you mean 'gre'?"},
    {"ProtocolMissing", with_service("proto/"), {"6:33: '' in 'proto/' is not a protocol"}, "proto/47"},
    {"ProtocolWithPorts", with_service("proto/6"), {"6:33: 'proto/6' has a word of its own"}, "tcp/PORT"},
    {"ProtocolWithTypes",
     with_service("proto/ipv6-icmp"),
     {"6:33: 'proto/ipv6-icmp' has a word of its own"},
     "icmpv6/TYPE"},
    {"ProtocolAlone", with_service("gre"), {"6:33: service 'gre' is not known"}, "write proto/gre"},
    {"PortTooLarge", with_service("tcp/70000"), {"6:33: port 70000 is larger than 65535"}},
    {"PortFarTooLarge",
     with_service("tcp/99999999999999999999"),
     {"6:33: port 99999999999999999999 is larger than 65535"}},
    {"ReversedRange", with_service("tcp/90-80"), {"6:33: the range 90-80 goes backwards"}, "80-90"},
    {"NoPort", with_service("tcp"), {"6:33: 'tcp' without a port"}, "0-65535"},
    {"NoProtocol", with_service("443"), {"6:33: port 443 without its protocol"}, "tcp/443"},
    {"OtherProtocol", with_service("sctp/1"), {"6:33: 'sctp' is not a protocol"}},
    {"NegativePort", with_service("tcp/-1"), {"6:33: '' in 'tcp/-1' is not a port"}},
    {"WordPort", with_service("tcp/ssh"), {"6:33: 'ssh' in 'tcp/ssh' is not a port"}},
    {"EmptyServices", with_service("[]"), {"6:33: 'service' is an empty list"}},
    {"ServiceTwice", with_service("[ssh, ssh]"), {"6:39: 'ssh' is listed twice in 'service'"}},
    {"EmptyProcess", with_rule("  - {id: r, from: any, service: ssh, process: {}}"), {"6:47: 'process' is empty"}},
    {"UnitWithoutType",
     with_rule("  - {id: r, from: any, service: ssh, process: {unit: nginx}}"),
     {"6:54: unit 'nginx' has no type"},
     "nginx.service"},
    {"RelativeExe",
     with_rule("  - {id: r, from: any, service: ssh, process: {exe: nginx}}"),
     {"6:53: 'nginx' is not a whole path"},
     "**/nginx"},
    {"BadGlob",
     with_rule("  - {id: r, from: any, service: ssh, process: {exe: \"/usr/[ab\"}}"),
     {"6:53: '/usr/[ab' is not a pattern: '[' without ']'"}},
    {"DigestAlone",
     with_rule("  - {id: r, from: any, service: ssh, process: {sha256: " + std::string(64, 'a') + "}}"),
     {"6:47: 'sha256' without 'exe'"},
     "exe:"},
    {"ShortDigest",
     with_rule("  - {id: r, from: any, service: ssh, process: {exe: /a, sha256: abc}}"),
     {"6:65: 'sha256' must be 64 hexadecimal digits"}},
    {"EmptyAllow", with_line("allow: []"), {"4:8: 'allow' is an empty list"}},
    {"AllowIsNoList", with_line("allow: {id: r}"), {"4:8: 'allow' must be a list, not a map"}},
    {"Contradiction",
     with_rule("  - {id: a, from: {cidr: [10.0.0.0/8, 11.0.0.0/8]}, service: [ssh, tcp/80]}\ndeny:\n"
               "  - {id: d, from: {cidr: [11.0.0.0/8, 10.0.0.0/8]}, service: [http, tcp/22]}"),
     {"8:5: 'd' denies exactly what 'a' at p.yaml:6:5 allows"},
     "deny always wins"},
};

const std::vector<Mistake> text_mistakes{
    {"Tab", "version: 1\nsegment: web\n\tselector: {a: b}\n", {"3:1: a tab in the indentation"}, "spaces"},
    {"TabBeforeItem", "version: 1\nallow:\n\t- x\n", {"3:1: a tab in the indentation"}, "spaces"},
    {"MissingComma",
     "version: 1\nservices: {a: [\"tcp/1\" \"tcp/2\"]}\n",
     {"2:24: the '[' of line 2, column 15 is not closed, or a ',' is missing here"}},
    {"OpenBracket",
     "version: 1\nservices: {a: [tcp/1\n",
     {"2:15: the '[' of line 2, column 15 is not closed, or a ',' is missing here"}},
    {"OpenQuote",
     "version: 1\nsegment: \"web\nselector: {a: b}\n",
     {"3:17: a quote is opened and never closed"},
     "close the quote"},
    {"StrayComma", ",", {"1:1: malformed YAML: nothing can begin with this character"}},
    {"StrayCommaAfterAList",
     "[a],b\n---\nversion: 1\n",
     {"1:1: a document must be a map", "1:4: malformed YAML: nothing can begin with this character",
      "3:1: there is nothing in this document"}},
    {"BadIndentation",
     "version: 1\nsegment: web\n  mode: test\n",
     {"3:7: malformed YAML: a ': ' that no key can have here"},
     "indentation"},
    {"Anchor", "version: 1\nservices: &a {x: [tcp/1]}\n", {"2:11: anchors (&a) are not used in policies"}},
    {"Alias",
     "version: 1\nservices: {x: &a [tcp/1], y: *a}\n",
     {"2:15: anchors (&a) are not used in policies", "2:30: aliases (*name) are not used in policies"}},
    {"UndefinedAlias", "version: *v\n", {"1:10: aliases (*name) are not used in policies"}},
    {"Tag", "version: !!int 1\nservices: {x: [tcp/1]}\n", {"1:10: YAML tags (!name) are not used in policies"}},
    {"ComplexKey", "version: 1\nservices: {x: [tcp/1]}\n? [a]\n: b\n", {"3:3: a key must be a word"}},
    {"NotUtf8", "version: 1\ndescription: caf\xe9\n", {"2:17: byte 0xe9 is not UTF-8"}, "UTF-8"},
    {"Utf16", std::string("\xff\xfev\0e\0", 6), {"1:1: byte 0xff is not UTF-8"}},
    {"Nul", std::string("version: 1\nowner: a\0b\n", 22), {"2:9: control character 0x00"}},
    {"Escape", "version: 1\nowner: \x1b[2J\n", {"2:8: control character 0x1b"}},
    {"HiddenEscape", with_line("owner: \"\\x1b[2J\""), {"4:8: a control character in a value"}},
    {"HugeScalar",
     with_line("description: " + std::string(1U << 20, 'x')),
     {"4:14: a value of 1048576 bytes; the limit is 4096"}},
    {"Deep",
     "version: 1\nservices: " + std::string(100, '[') + std::string(100, ']') + "\n",
     {"2:42: nested deeper than 32 levels"}},
    {"VeryDeep", std::string(300000, '['), {"1:17: nested deeper than 32 levels"}},
};

std::string name_of(const testing::TestParamInfo<Mistake>& info)
{
    return info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Document, ParseMistake, testing::ValuesIn(document_mistakes), name_of);
INSTANTIATE_TEST_SUITE_P(Rule, ParseMistake, testing::ValuesIn(rule_mistakes), name_of);
INSTANTIATE_TEST_SUITE_P(Text, ParseMistake, testing::ValuesIn(text_mistakes), name_of);

TEST(ParseErrors, OfEveryDocumentAndFileAreReportedInOrder)
{
    const std::vector<SourceFile> files{
        {"b.yaml", "version: 1\nsegment: a\nselector: {}\nmode: x\n---\nversion: [1\n---\nversion: 3\nowner: q\n"},
        {"a.yaml", "version: 1\nsegment: a\nselector: {app: x}\n"},
    };
    std::vector<std::string> lines;
    for (const auto& diagnostic : parse(files).diagnostics)
        lines.push_back(diagnostic.to_string());
    EXPECT_EQ(lines,
              (std::vector<std::string>{
                  "b.yaml:3:11: error: 'selector' selects nothing in particular\n    mend: name labels, such as "
                  "{app: shop, role: db}; {app: \"*\"} selects every workload that has the label",
                  "b.yaml:4:7: error: 'mode' cannot be 'x'\n    mend: one of: observe, test, enforce",
                  "b.yaml:6:10: error: the '[' of line 6, column 10 is not closed, or a ',' is missing here\n    mend: "
                  "close it, or separate its items with ','",
                  "b.yaml:8:1: error: rules and settings of a segment without its name\n    mend: write segment: NAME",
                  "b.yaml:8:1: error: a segment without 'selector'\n    mend: say which workloads are in it, such "
                  "as selector: {app: shop, role: db}",
                  "b.yaml:8:10: error: version '3' is not known\n    mend: write version: 1",
                  "a.yaml:2:10: error: segment 'a' is given twice; first at b.yaml:2:10\n    mend: rename or remove "
                  "one of them",
              }));
}

TEST(ParseErrors, NoFilesAreNoPolicy)
{
    EXPECT_FALSE(parse({}).ok());
}

TEST(ParseErrors, AnAliasBombDoesNotExpand)
{
    std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
    for (char c = 'b'; c <= 'z'; ++c)
        bomb += std::string{c} + ": &" + c + " [" + [c] {
            std::string items;
            for (int i = 0; i < 10; ++i)
                items += (i == 0 ? "*" : ", *") + std::string(1, static_cast<char>(c - 1));
            return items;
        }() + "]\n";
    const auto said = complaints(bomb);
    ASSERT_GT(said.size(), 250U);
    EXPECT_EQ(said.front(), "1:1: a document without 'version'");
}

TEST(ParseErrors, AFloodOfErrorsIsCut)
{
    std::string text = "version: 1\nsegment: s\nselector: {a: b}\nallow:\n";
    for (int i = 0; i < 5000; ++i)
        text += "  - {id: r" + std::to_string(i) + ", from: {segment: nobody}, service: nothing}\n";
    const auto said = complaints(text);
    ASSERT_EQ(said.size(), max_findings + 1);
    EXPECT_EQ(said.back(), "0:0: more than 1000 errors; the rest is not listed");
}

TEST(ParseErrors, AFileOverTheLimitIsNotRead)
{
    const auto said = complaints(std::string(max_file_bytes + 1, '#'));
    EXPECT_EQ(said, std::vector<std::string>{"1:1: 16777217 bytes; the limit of one file is 16777216"});
}

TEST(ParseErrors, ManySyntaxErrorsCostNoMoreThanTheirText)
{
    std::string text;
    for (int i = 0; i < 100000; ++i)
        text += "---\na: [\n";
    EXPECT_LE(complaints(text).size(), max_findings + 2);
}

TEST(ParseErrors, MoreNodesThanTheLimit)
{
    std::string text = "version: 1\naddresses: {a: [";
    for (std::size_t i = 0; i < max_nodes; ++i)
        text += "1,";
    const auto said = complaints(text + "]}\n");
    ASSERT_FALSE(said.empty());
    EXPECT_NE(said.front().find("more than 1000000 values in one file"), std::string::npos) << said.front();
}

} // namespace
} // namespace bulkhead::policy
