// Tests of settings, stores and HTTP requests, run natively with the sanitizers. What they are made of is tested in
// ../../c/tests.
#undef NDEBUG
#include <cassert>
#include <wabbit_config.hpp>
#include <wabbit_http.hpp>
#include <wabbit_keyvalue.hpp>

using namespace std::chrono_literals;
using namespace std::string_literals;
using wabbit::Error, wabbit::Store;
namespace http = wabbit::http;

WABBIT_HANDLER([](const wabbit::Delivery&) -> wabbit::Result { return wabbit::ack(); })

static void settings_are_provided() {
  assert(wabbit::settings().empty() && !wabbit::setting("from"));
  assert(wabbit::need_setting("from").error() == Error("the manifest grants no value `from`"));
  assert(wabbit::secret("from").error() == Error("the manifest grants no value `from`"));
  wabbit::provide_setting("from", "shop@example.com");
  assert(wabbit::setting("from") == "shop@example.com" && wabbit::need_setting("from") == "shop@example.com");
  assert(wabbit::secret("from")->expose() == "shop@example.com");
  assert(wabbit::settings().size() == 1 && wabbit::settings()[0].first == "from");
  static_assert(!std::convertible_to<wabbit::Secret, std::string_view>);
}

static wabbit::Result use() {
  WABBIT_TRY(auto store, Store::open("counts"));
  WABBIT_CHECK(store.set("b", "x"));
  WABBIT_TRY(auto sum, store.increment("b"));
  return wabbit::dead_letter(std::to_string(sum));
}

static void a_store_keeps_what_it_is_given() {
  assert(use() == wabbit::Result(wabbit::fail("the manifest grants no such store")));
  wabbit::provide_store("counts");
  assert(use() == wabbit::Result(wabbit::fail("the value of `b` is not a whole number")));
  auto store = *Store::open("counts");
  assert(store.increment("a") == 1u && store.increment("a", 4) == 5u && store.get("a") == "5"s);
  assert(store.set("c", "\0\xff"s).has_value() && store.get("c") == "\0\xff"s);
  assert((*store.keys() == std::vector{"a"s, "b"s, "c"s}));
  assert(store.contains("c") == true && store.erase("c").has_value() && store.contains("c") == false);
  assert(store.get("c")->has_value() == false);
}

static void requests_are_put_together() {
  auto request = http::Request("POST", "https://a.example/b")
                     .query("q", "a b&c=\xc3\xbc")
                     .bearer(wabbit::Secret("t"))
                     .json(wabbit::array({1}))
                     .within(1500ms);
  auto answering = http::answer([&](const http::Request& seen) {
    assert(seen == request && seen.url == "https://a.example/b?q=a%20b%26c%3D%C3%BC");
    assert((seen.headers == http::Headers{{"authorization", "Bearer t"}, {"content-type", "application/json"}}));
    return http::Response{.status = 201, .headers = {{"x-seen", "yes"}}, .body = "[2]"};
  });
  auto response = *request.send();
  assert(response == (http::Response{.status = 201, .headers = {{"x-seen", "yes"}}, .body = "[2]"}));
  assert(*response.header("X-Seen") == "yes" && !response.header("x-see"));
  assert(response.json()->items()[0].as<std::int64_t>() == 2 && *response.text() == "[2]");
}

static void what_went_wrong_is_told() {
  assert(http::get("https://a.example/").error() ==
         http::Error("nobody answers: a test says how, by `wabbit_answer`", WABBIT_HTTP_CONNECTION));
  std::expected<http::Response, http::Error> answer = http::Response{.status = 503, .headers = {}, .body = " later "};
  auto answering = http::answer([&](const http::Request&) { return answer; });
  auto moved = std::move(answering);
  assert(!http::get("https://a.example/")->is_success());
  auto told = (*http::get("https://a.example/")).success();
  assert(told.error() == http::Error("the server answered 503: later", WABBIT_HTTP_OK));
  // It is a failure, which is tried again.
  assert(Error(told.error()) == Error("the server answered 503: later"));
  auto response = *http::get("https://a.example/");
  assert(response.json().error().reason.starts_with("the response is not JSON: "));
  response.body = "\xff";
  assert(response.text().error().reason == "the response is not UTF-8");
  answer = std::unexpected(http::Error("too late", WABBIT_HTTP_TIMEOUT));
  assert(http::get("https://a.example/").error() == http::Error("too late", WABBIT_HTTP_TIMEOUT));
}

static void answers_end() {
  { auto answering = http::answer([](const http::Request&) { return http::Response{}; }); }
  assert(!http::get("https://a.example/"));
}

int main() {
  settings_are_provided();
  a_store_keeps_what_it_is_given();
  requests_are_put_together();
  what_went_wrong_is_told();
  answers_end();
}
