// Tests of the wrapper, run natively with the sanitizers. What it is made of is tested in ../../c/tests.
#undef NDEBUG
#include <cassert>
#include <cmath>
#include <limits>
#include <wabbit.hpp>
#include <wabbit_json.hpp>

using namespace std::chrono_literals;
using namespace std::string_literals;
using wabbit::Delivery, wabbit::Error, wabbit::Field, wabbit::Publication, wabbit::Result;

static Result (*handler)(const Delivery&);

static Result handle(const Delivery& delivery) { return handler(delivery); }

WABBIT_HANDLER(handle)

// What the host is given where a handler returns that.
static const wabbit_result* answer(wabbit_call* call, Result (*function)(const Delivery&)) {
  handler = function;
  wabbit_delivery delivery = wabbit_delivery_of("body");
  wabbit_handle(call, &delivery);
  return wabbit_call_result(call);
}

static void settlements_become_those_of_the_contract() {
  struct Case {
    Result (*function)(const Delivery&);
    bool (*expected)(const wabbit_settlement&);
  };
  const Case cases[] = {
      {[](const Delivery&) -> Result { return wabbit::ack(); }, [](const auto& s) { return s.kind == WABBIT_ACK; }},
      {[](const Delivery&) -> Result { return wabbit::requeue(); },
       [](const auto& s) { return s.kind == WABBIT_REQUEUE; }},
      {[](const Delivery&) -> Result { return wabbit::retry(); },
       [](const auto& s) { return s.kind == WABBIT_RETRY && !s.retry_ms.some; }},
      {[](const Delivery&) -> Result { return wabbit::retry_after(2s); },
       [](const auto& s) { return s.kind == WABBIT_RETRY && s.retry_ms.some && s.retry_ms.value == 2000; }},
      {[](const Delivery&) -> Result { return wabbit::retry_after(10000h); },
       [](const auto& s) { return s.retry_ms.some && s.retry_ms.value == UINT32_MAX; }},
      {[](const Delivery&) -> Result { return wabbit::dead_letter("100 % odd"); },
       [](const auto& s) { return s.kind == WABBIT_DEAD_LETTER && wabbit_is(s.reason, "100 % odd"); }},
      {[](const Delivery&) -> Result { return std::unexpected(Error("odd", false)); },
       [](const auto& s) { return s.kind == WABBIT_DEAD_LETTER && wabbit_is(s.reason, "odd"); }},
  };
  for (const Case& each : cases) {
    wabbit_call* call = wabbit_call_new();
    const wabbit_result* result = answer(call, each.function);
    assert(!result->failed && each.expected(result->outcome.settlement));
    wabbit_call_free(call);
  }
}

static void an_error_is_a_failure() {
  wabbit_call* call = wabbit_call_new();
  const wabbit_result* result = answer(call, [](const Delivery&) -> Result { return wabbit::fail("100 % down"); });
  assert(result->failed && wabbit_is(result->error, "100 % down"));
  wabbit_call_free(call);
}

static wabbit::Properties full() {
  wabbit::Properties all;
  all.content_type = "text/plain";
  all.content_encoding = "";
  all.headers = {{"boolean", true},
                 {"integer", std::numeric_limits<std::int64_t>::min()},
                 {"float", -0.5},
                 {"text", ""},
                 {"binary", wabbit::Binary{"\0\xff"s}},
                 {"timestamp", wabbit::Timestamp{7}},
                 {"json", wabbit::JsonText{"[]"}},
                 {"void", wabbit::Void{}}};
  all.persistent = true;
  all.priority = 0;
  all.correlation_id = "c";
  all.reply_to = "r";
  all.expiration_ms = 0;
  all.message_id = "m";
  all.timestamp = UINT64_MAX;
  all.kind = "k";
  all.user_id = "u";
  all.app_id = "a";
  return all;
}

static void everything_goes_there_and_back() {
  wabbit_call* call = wabbit_call_new();
  const wabbit_result* result = answer(call, [](const Delivery& delivery) -> Result {
    return wabbit::ack()
        .publish(Publication("e", "k").forward(delivery.body).with(full()))
        .publish(Publication("", "q"));
  });
  assert(result->outcome.publications.len == 2);
  const wabbit_publication& first = result->outcome.publications.ptr[0];
  const wabbit_publication& second = result->outcome.publications.ptr[1];
  assert(wabbit_is(first.exchange, "e") && wabbit_is(first.routing_key, "k") && wabbit_is(first.body, "body"));
  assert(wabbit::edge::properties(first.properties) == full());
  assert(wabbit::edge::properties(second.properties) == wabbit::Properties());
  for (std::size_t kind = 0; kind < 8; kind++) assert(first.properties.headers.ptr[kind].value.kind == kind);

  wabbit_delivery delivery = {};
  delivery.body = wabbit_cstr("b");
  delivery.properties = first.properties;
  delivery.queue = wabbit_cstr("q");
  delivery.redelivered = true;
  delivery.attempt = 3;
  Delivery read = wabbit::edge::delivery(delivery);
  assert(read.body == "b" && read.queue == "q" && read.redelivered && read.attempt == 3);
  assert(read.properties == full());
  wabbit_call_free(call);
}

static void fields_are_made_of_what_they_hold() {
  assert(*Field(true).as<bool>());
  assert(*Field(7).as<std::int64_t>() == 7 && *Field('a').as<std::int64_t>() == 'a');
  assert(*Field(1.5f).as<double>() == 1.5);
  assert(*Field("text").as<std::string>() == "text" && !Field("text").as<bool>());
  assert(*Field("a\0b"s).as<std::string>() == "a\0b"s);
}

static void headers_are_found_by_name() {
  Delivery delivery;
  delivery.properties.set_header("Tenant", "acme");
  delivery.properties.set_header("Tenant", "emca");
  assert(delivery.properties.headers.size() == 1);
  assert(*delivery.header<std::string>("Tenant") == "emca");
  assert(!delivery.header<std::int64_t>("Tenant") && !delivery.header<std::string>("tenant"));
}

static void a_reply_goes_where_it_is_awaited() {
  Delivery delivery;
  assert(!delivery.reply("pong"));
  assert(wabbit::ack().publish(delivery.reply("pong")) == wabbit::ack());
  delivery.properties.reply_to = "answers";
  delivery.properties.correlation_id = "7";
  Publication expected = Publication("", "answers").text("pong");
  expected.properties.correlation_id = "7";
  assert(delivery.reply("pong") == expected);
}

static void bodies_are_text() {
  assert(Delivery{.body = "h\xc3\xa4"}.text() == "h\xc3\xa4");
  Error expected("the body is not UTF-8 text: an invalid sequence at byte 1", false);
  assert(Delivery{.body = "a\xff"}.text().error() == expected);
  assert(Publication("", "q").text("a", "b"s, std::string_view("c")).body.view() == "abc");
}

static Result order(const Delivery& delivery) {
  WABBIT_TRY(wabbit::Json order, delivery.json());
  WABBIT_TRY(auto email, order.need<std::string>("email"));
  WABBIT_TRY(auto count, order.need<std::int64_t>("count"));
  return wabbit::dead_letter(email + std::to_string(count));
}

static void json_is_needed_or_dead_lettered() {
  auto check = [](const char* body, std::string reason) {
    assert(order({.body = body}) == Result(std::unexpected(Error(reason, false))));
  };
  assert(order({.body = R"({"email": "\u00e4", "count": -3})"}) == wabbit::dead_letter("\xc3\xa4-3"));
  check("{", "the body is not JSON: string expected at line 1 column 2");
  check("[]", "the body is not the JSON expected: missing field `email`");
  check(R"({"email": 7})", "the body is not the JSON expected: field `email` is not a string");
  check(R"({"email": "", "count": 1.5})", "the body is not the JSON expected: field `count` is not an integer");
}

static void json_is_gone_through() {
  auto value = *wabbit::Json::parse(R"({"a": [1, null, "x"], "b": true, "c\n": 0.5})");
  auto members = value.members();
  assert(members.size() == 3 && members[2].first == "c\n" && members[2].second.as<double>() == 0.5);
  assert(value["b"].as<bool>() == true && !value["b"].as<double>() && value["x"].is_missing());
  assert(value["a"].items().size() == 3 && value["a"].items()[1].is_null() && value["a"].members().empty());
  assert(value["a"].text().text == "[1, null, \"x\"]" && value["x"].text().text == "null");
}

static void json_is_written() {
  std::vector<std::string> names = {"a", "\""};
  auto json = wabbit::object({{"text", "a\n\xff"},
                              {"n", std::numeric_limits<std::int64_t>::min()},
                              {"x", 0.1},
                              {"nan", std::nan("")},
                              {"no", false},
                              {"null", nullptr},
                              {"names", wabbit::array(names)},
                              {"list", wabbit::array({1, "b", wabbit::object({})})}});
  assert(json.text == "{\"text\":\"a\\n\xef\xbf\xbd\",\"n\":-9223372036854775808,\"x\":0.1,\"nan\":null,\"no\":false,"
                      "\"null\":null,\"names\":[\"a\",\"\\\"\"],\"list\":[1,\"b\",{}]}");
  Publication publication = Publication("", "q").json(json);
  assert(publication.body.view() == json.text && publication.properties.content_type == "application/json");
}

static void tests_have_a_context() {
  assert(wabbit::worker() == "test" && wabbit::remaining() == 5s);
}

int main() {
  settlements_become_those_of_the_contract();
  an_error_is_a_failure();
  everything_goes_there_and_back();
  fields_are_made_of_what_they_hold();
  headers_are_found_by_name();
  a_reply_goes_where_it_is_awaited();
  bodies_are_text();
  json_is_needed_or_dead_lettered();
  json_is_gone_through();
  json_is_written();
  tests_have_a_context();
}
