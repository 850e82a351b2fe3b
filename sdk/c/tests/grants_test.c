/* Tests of settings, stores and HTTP requests, run natively with the sanitizers, and so of what stands in for the host
 * in handlers' own tests. */
#undef NDEBUG
#include <assert.h>
#include <string.h>
#include <wabbit.h>
#include <wabbit_call.h>
#include <wabbit_config.h>
#include <wabbit_http.h>
#include <wabbit_keyvalue.h>

void wabbit_handle(wabbit_call *call, const wabbit_delivery *delivery) { (void)call, (void)delivery; }

static wabbit_str s(const char *text) { return wabbit_cstr(text); }

static bool failed_with(wabbit_call *call, const char *text) { return wabbit_is(wabbit_failure(call), text); }

static void settings_are_provided(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_str value = s("default");
  assert(wabbit_settings(call).len == 0);
  assert(!wabbit_setting(call, "from", &value) && wabbit_is(value, "default") && failed_with(call, ""));
  assert(!wabbit_need_setting(call, "from", &value) && failed_with(call, "the manifest grants no value `from`"));
  wabbit_ack(call);
  assert(failed_with(call, ""));

  wabbit_provide_setting("from", "a");
  wabbit_provide_setting("to", "");
  wabbit_provide_setting("from", "shop@example.com");
  assert(wabbit_setting(call, "from", &value) && wabbit_is(value, "shop@example.com"));
  assert(wabbit_need_setting(call, "to", &value) && value.len == 0);
  assert(wabbit_settings(call).len == 2);
  wabbit_provide_setting("from", NULL);
  wabbit_pairs all = wabbit_settings(call);
  assert(all.len == 1 && wabbit_is(all.ptr[0].name, "to") && wabbit_is(all.ptr[0].value, ""));
  wabbit_call_free(call);
}

static void a_store_keeps_what_it_is_given(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_store store, same;
  wabbit_opt_str value;
  wabbit_strs keys;
  bool exists;
  uint64_t sum;
  assert(!wabbit_open_store(call, "counts", &store) && failed_with(call, "the manifest grants no such store"));
  wabbit_provide_store("other");
  wabbit_provide_store("counts");
  assert(wabbit_open_store(call, "counts", &store) && wabbit_open_store(call, "counts", &same));

  assert(wabbit_store_get(call, store, s("a"), &value) && !value.some);
  assert(wabbit_store_increment(call, store, s("a"), 2, &sum) && sum == 2);
  assert(wabbit_store_increment(call, same, s("a"), UINT64_MAX - 2, NULL));
  assert(wabbit_store_get(call, same, s("a"), &value) && wabbit_is(value.value, "18446744073709551615"));
  assert(!wabbit_store_increment(call, store, s("a"), 1, &sum) && failed_with(call, "`a` would be too large"));

  assert(wabbit_store_set(call, store, s("c"), (wabbit_str){"\0\xff", 2}));
  assert(wabbit_store_set(call, store, s(""), s("")) && wabbit_store_set(call, store, s("b"), s("1x")));
  assert(wabbit_store_get(call, store, s("c"), &value) && value.value.len == 2 && value.value.ptr[1] == '\xff');
  assert(wabbit_store_get(call, store, s(""), &value) && value.some && value.value.len == 0);
  static const char *const odd[] = {"", "b"};
  for (size_t i = 0; i < 2; i++) assert(!wabbit_store_increment(call, store, s(odd[i]), 1, &sum));
  assert(failed_with(call, "the value of `b` is not a whole number"));

  assert(wabbit_store_keys(call, store, &keys) && keys.len == 4);
  static const char *const sorted[] = {"", "a", "b", "c"};
  for (size_t i = 0; i < 4; i++) assert(wabbit_is(keys.ptr[i], sorted[i]));
  assert(wabbit_store_exists(call, store, s("b"), &exists) && exists);
  assert(wabbit_store_delete(call, store, s("b")) && wabbit_store_delete(call, store, s("b")));
  assert(wabbit_store_exists(call, store, s("b"), &exists) && !exists);
  wabbit_provide_store("counts");
  assert(wabbit_store_keys(call, store, &keys) && keys.len == 0);
  wabbit_call_free(call);
}

static void urls_have_parts(void) {
  static const struct {
    const char *text, *scheme, *authority, *path;
  } cases[] = {
      {"https://a.example/b?c#d", "https", "a.example", "/b?c"},
      {"http://a.example:80", "http", "a.example:80", "/"},
      {"http://[::1]:80?a=/", "http", "[::1]:80", "?a=/"},
      {"https://a.example#/b", "https", "a.example", "/"},
      {"https://a.example/#", "https", "a.example", "/"},
      {"a.example/b", NULL, NULL, NULL},
      {"https:///b", NULL, NULL, NULL},
      {"https://", NULL, NULL, NULL},
      {"https:/a", NULL, NULL, NULL},
      {"://a", NULL, NULL, NULL},
      {"", NULL, NULL, NULL},
      {"/a?b=http://c/", NULL, NULL, NULL},
      {"ftp://a/b", NULL, NULL, NULL},
      {"http://a/b c", NULL, NULL, NULL},
      {"http://a/\xc3\xa4", NULL, NULL, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    wabbit_url url;
    assert(wabbit_url_parse(s(cases[i].text), &url) == (cases[i].scheme != NULL));
    if (!cases[i].scheme) continue;
    assert(wabbit_is(url.scheme, cases[i].scheme) && wabbit_is(url.authority, cases[i].authority));
    assert(wabbit_is(url.path, cases[i].path));
  }
}

static void requests_are_put_together(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_request request = wabbit_request_of("GET", s("https://a.example/b"));
  wabbit_request_query(call, &request, "q", s("a b&c=\xc3\xbc"));
  wabbit_request_query(call, &request, "n[]", s("1-._~"));
  assert(wabbit_is(request.url, "https://a.example/b?q=a%20b%26c%3D%C3%BC&n%5B%5D=1-._~"));
  wabbit_request_bearer(call, &request, s("t"));
  wabbit_json_writer json = wabbit_json_write(call);
  wabbit_json_put_integer(&json, 7);
  wabbit_request_json(call, &request, &json);
  assert(request.headers.len == 2 && wabbit_is(request.body, "7"));
  assert(wabbit_is(request.headers.ptr[0].name, "authorization"));
  assert(wabbit_is(request.headers.ptr[0].value, "Bearer t"));
  assert(wabbit_is(request.headers.ptr[1].value, "application/json"));
  wabbit_call_free(call);
}

static bool echo(void *status, wabbit_call *call, const wabbit_request *request, wabbit_response *response) {
  static wabbit_pair headers[] = {{{"x-seen", 6}, {"yes", 3}}};
  response->status = *(uint16_t *)status;
  response->headers = (wabbit_pairs){headers, 1};
  response->body = wabbit_format(call, " %.*s ", WABBIT_ARG(request->body));
  return true;
}

static bool late(void *unused, wabbit_call *call, const wabbit_request *request, wabbit_response *response) {
  (void)unused;
  response->error = WABBIT_HTTP_TIMEOUT;
  wabbit_fail(call, "%.*s: too late", WABBIT_ARG(request->method));
  return false;
}

static void a_test_answers(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_request request = wabbit_request_of("POST", s("https://a.example/"));
  wabbit_request_text(call, &request, s("[1]"));
  wabbit_response response;
  wabbit_json json;
  wabbit_str text;
  assert(!wabbit_send(call, &request, &response) && response.error == WABBIT_HTTP_CONNECTION);
  assert(failed_with(call, "nobody answers: a test says how, by `wabbit_answer`"));

  uint16_t status = 201;
  wabbit_answer(echo, &status);
  wabbit_ack(call);
  assert(wabbit_send(call, &request, &response) && response.status == 201 && response.error == WABBIT_HTTP_OK);
  assert(wabbit_success(call, &response) && failed_with(call, ""));
  assert(wabbit_response_header(&response, "X-Seen", &text) && wabbit_is(text, "yes"));
  assert(!wabbit_response_header(&response, "x_seen", &text));
  assert(wabbit_response_text(call, &response, &text) && wabbit_is(text, " [1] "));
  assert(wabbit_response_json(call, &response, &json) && wabbit_json_typeof(json) == WABBIT_JSON_ARRAY);

  status = 503;
  assert(wabbit_get(call, "https://a.example/", &response) && !wabbit_success(call, &response));
  assert(failed_with(call, "the server answered 503"));
  request.body = s("try later\xff");
  assert(wabbit_send(call, &request, &response) && !wabbit_success(call, &response));
  assert(failed_with(call, "the server answered 503: try later?"));
  assert(!wabbit_response_text(call, &response, &text) && failed_with(call, "the response is not UTF-8"));
  assert(!wabbit_response_json(call, &response, &json));
  assert(strncmp(wabbit_failure(call).ptr, "the response is not JSON: ", 26) == 0);

  /* What is shown is cut between characters. */
  char *long_text = wabbit_alloc(call, 400);
  for (size_t i = 0; i < 200; i++) memcpy(long_text + 2 * i, "\xc3\xa4", 2);
  response.body = (wabbit_str){long_text + 1, 399};
  long_text[1] = 'a';
  assert(!wabbit_success(call, &response));
  assert(wabbit_failure(call).len == strlen("the server answered 503: ") + 199);

  wabbit_answer(late, NULL);
  assert(!wabbit_send(call, &request, &response) && response.error == WABBIT_HTTP_TIMEOUT && response.status == 0);
  assert(failed_with(call, "POST: too late"));
  wabbit_answer(NULL, NULL);
  wabbit_call_free(call);
}

static int order[3], returned;

static void note(void *number) { order[returned++] = *(int *)number; }

static void what_is_open_is_closed_when_the_handler_returns(void) {
  static int numbers[] = {1, 2, 3};
  wabbit_call *call = wabbit_call_new();
  wabbit_defer(call, note, &numbers[0]);
  wabbit_at_return(call, note, &numbers[1]);
  wabbit_at_return(call, note, &numbers[2]);
  wabbit_call_return(call);
  assert(returned == 2);
  wabbit_call_free(call);
  assert(returned == 3 && order[0] == 3 && order[1] == 2 && order[2] == 1);
}

int main(void) {
  settings_are_provided();
  a_store_keeps_what_it_is_given();
  urls_have_parts();
  requests_are_put_together();
  a_test_answers();
  what_is_open_is_closed_when_the_handler_returns();
}
