// HTTP requests, to the origins that the manifest's `[grant] http` lists. A handler that sends none imports nothing for
// them.
//
// A request takes place at once, not with the settlement: a delivery that is tried again sends it again. Redirects are
// not followed; the response says where it points to in its header `location`.
#pragma once

#include "../c/wabbit_http.h"
#include "wabbit_json.hpp"

#include <algorithm>
#ifndef __wasm__
#include <functional>
#include <memory>
#endif

namespace wabbit {

class Secret;

namespace http {

using Headers = std::vector<std::pair<std::string, std::string>>;

// Why there is no response, or not the one that was wanted. A failure of the delivery, where it is returned.
struct Error : wabbit::Error {
  // For the handler to act upon; WABBIT_HTTP_OK where there is a response, which was not the one that was wanted.
  wabbit_http_error kind;

  explicit Error(std::string reason, wabbit_http_error kind = WABBIT_HTTP_OTHER)
      : wabbit::Error(std::move(reason)), kind(kind) {}
  bool operator==(const Error&) const = default;
};

// What came back.
struct Response {
  // Such as 200.
  std::uint16_t status = 200;
  // Names are in lower case.
  Headers headers = {};
  // The whole of it.
  std::string body = {};

  bool operator==(const Response&) const = default;

  // The first header of that name, in whatever case; null where there is none.
  const std::string* header(std::string_view name) const {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    for (const auto& [known, value] : headers)
      if (std::ranges::equal(known, name, {}, lower, lower)) return &value;
    return nullptr;
  }

  bool is_success() const { return status >= 200 && status < 300; }

  // The response itself where its status is one of 200 to 299, else an error with the beginning of the body.
  std::expected<Response, Error> success() && {
    edge::Asking asking;
    wabbit_response response = {.status = status, .error = WABBIT_HTTP_OK, .headers = {}, .body = edge::str(body)};
    if (wabbit_success(asking.call, &response)) return std::move(*this);
    return std::unexpected(Error(asking.reason(), WABBIT_HTTP_OK));
  }

  // The body as UTF-8.
  std::expected<std::string_view, Error> text() const& {
    if (wabbit_utf8_prefix(edge::str(body)) == body.size()) return body;
    return std::unexpected(Error("the response is not UTF-8", WABBIT_HTTP_OK));
  }

  // The body as JSON: a view of it.
  std::expected<Json, Error> json() const& {
    auto json = Json::parse(body);
    if (json) return *json;
    // It begins with `the body`.
    return std::unexpected(Error("the response" + json.error().reason.substr(8), WABBIT_HTTP_OK));
  }

  void text() && = delete;
  void json() && = delete;
};

// A request to be sent: `Request("POST", url).bearer(token).json(object({{"id", 7}})).send()`.
struct Request {
  // Such as `GET`.
  std::string method;
  // `https://HOST/PATH?QUERY`, or `http://…`. What has a meaning there is written as `%xx`.
  std::string url;
  // `host` and what concerns the connection is the host's to say.
  Headers headers = {};
  // Empty for none.
  std::string body = {};
  // How long each of connecting, waiting for the response and waiting for its next part may take; 0 leaves it to the
  // host. The delivery's time bounds it all.
  std::chrono::milliseconds timeout{0};

  Request(std::string method, std::string url) : method(std::move(method)), url(std::move(url)) {}
  bool operator==(const Request&) const = default;

  // Adds a parameter to the URL's query, whatever signs are in it.
  Request query(const std::string& name, std::string_view value) && {
    edge::Asking asking;
    wabbit_request request = wabbit_request_of("", edge::str(url));
    wabbit_request_query(asking.call, &request, name.c_str(), edge::str(value));
    return url = edge::text(request.url), std::move(*this);
  }
  // Adds a header.
  Request header(std::string name, std::string value) && {
    return headers.emplace_back(std::move(name), std::move(value)), std::move(*this);
  }
  // Adds the header `authorization` with that token: a text, or a secret of wabbit_config.hpp.
  template <typename Token>
  Request bearer(const Token& token) && {
    if constexpr (std::same_as<Token, Secret>) return std::move(*this).bearer(token.expose());
    else return std::move(*this).header("authorization", concat("Bearer ", token));
  }
  // Sets the body, and leaves the content type as it is.
  Request bytes(std::string bytes) && { return body = std::move(bytes), std::move(*this); }
  // Sets the body to that text, with its content type.
  Request text(std::string text) && {
    return std::move(*this).header("content-type", "text/plain; charset=utf-8").bytes(std::move(text));
  }
  // Sets the body to what `wabbit::object` and the like wrote, with its content type.
  Request json(JsonText json) && {
    return std::move(*this).header("content-type", "application/json").bytes(std::move(json.text));
  }
  // Sets the timeout.
  Request within(std::chrono::milliseconds time) && { return timeout = time, std::move(*this); }

  // Sends it, and waits for the whole response, whatever its status. An error where there is none: it is not granted,
  // nobody answers in time, or it is larger than the host allows.
  std::expected<Response, Error> send() const {
    edge::Asking asking;
    std::vector<wabbit_pair> list;
    for (const auto& [name, value] : headers) list.push_back({edge::str(name), edge::str(value)});
    auto ms = timeout.count();
    wabbit_request request = {
        .method = edge::str(method),
        .url = edge::str(url),
        .headers = {list.data(), list.size()},
        .body = edge::str(body),
        .timeout_ms = ms < 0 ? 0 : ms > UINT32_MAX ? UINT32_MAX : static_cast<std::uint32_t>(ms),
    };
    wabbit_response response;
    if (!wabbit_send(asking.call, &request, &response)) return std::unexpected(Error(asking.reason(), response.error));
    return Response{response.status, edge::pairs(response.headers), edge::text(response.body)};
  }
};

// Gets that URL.
inline std::expected<Response, Error> get(std::string url) { return Request("GET", std::move(url)).send(); }

#ifndef __wasm__

using Answer = std::function<std::expected<Response, Error>(const Request&)>;

// While it is there, all requests are answered.
class [[nodiscard]] Answering {
  std::unique_ptr<Answer> answer_;

  static bool run(void* answer, wabbit_call* call, const wabbit_request* from, wabbit_response* response) {
    Request request(edge::text(from->method), edge::text(from->url));
    request.headers = edge::pairs(from->headers);
    request.body = edge::text(from->body);
    request.timeout = std::chrono::milliseconds(from->timeout_ms);
    auto result = (*static_cast<Answer*>(answer))(request);
    if (!result) {
      response->error = result.error().kind;
      wabbit_fail(call, "%.*s", static_cast<int>(result.error().reason.size()), result.error().reason.data());
      return false;
    }
    response->status = result->status;
    auto copy = [&](const std::string& text) { return wabbit_copy(call, edge::str(text)); };
    response->body = copy(result->body);
    std::size_t len = result->headers.size();
    response->headers = {static_cast<wabbit_pair*>(wabbit_alloc(call, len * sizeof(wabbit_pair))), len};
    for (std::size_t i = 0; i < len; i++)
      response->headers.ptr[i] = {copy(result->headers[i].first), copy(result->headers[i].second)};
    return true;
  }

 public:
  explicit Answering(Answer answer) : answer_(std::make_unique<Answer>(std::move(answer))) {
    wabbit_answer(run, answer_.get());
  }
  Answering(Answering&&) = default;
  ~Answering() {
    if (answer_) wabbit_answer(nullptr, nullptr);
  }
};

// For tests: answers all requests, until what it returns is gone.
inline Answering answer(Answer answer) { return Answering(std::move(answer)); }

#endif

}  // namespace http
}  // namespace wabbit
