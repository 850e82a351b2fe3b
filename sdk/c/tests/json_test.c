/* Tests of the JSON reader and writer, run natively with the sanitizers. */
#undef NDEBUG
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wabbit_json.h>

void wabbit_handle(wabbit_call *call, const wabbit_delivery *delivery) { (void)call, (void)delivery; }

static wabbit_json parse(const char *text) {
  wabbit_json value = {0};
  assert(wabbit_json_parse(wabbit_cstr(text), &value, NULL));
  return value;
}

/* In memory of exactly that size, so that the sanitizers see what is read beyond. */
static void refuses(const char *text, const char *what, size_t line, size_t column) {
  size_t len = strlen(text);
  char *exact = malloc(len ? len : 1);
  memcpy(exact, text, len);
  wabbit_json value = {0};
  wabbit_json_error error = {0};
  assert(!wabbit_json_parse((wabbit_str){exact, len}, &value, &error));
  free(exact);
  if (strcmp(error.what, what) == 0 && error.line == line && error.column == column) return;
  fprintf(stderr, "%s: %s at %zu:%zu, not %s at %zu:%zu\n", text, error.what, error.line, error.column, what, line,
          column);
  abort();
}

static void what_is_not_json_is_refused(void) {
  refuses("", "value expected, not the end", 1, 1);
  refuses("x", "value expected", 1, 1);
  refuses("{\"a\": 1", "`,` or `}` expected", 1, 8);
  refuses("{\"a\": 1,}", "string expected", 1, 9);
  refuses("{\"a\" 1}", "`:` expected", 1, 6);
  refuses("{a: 1}", "string expected", 1, 2);
  refuses("[1, 2", "`,` or `]` expected", 1, 6);
  refuses("[1,\n 2}", "`,` or `]` expected", 2, 3);
  refuses("[1,]", "value expected", 1, 4);
  refuses("1 2", "something follows the value", 1, 3);
  refuses("01", "a number starts with 0", 1, 2);
  refuses("-", "digit expected", 1, 2);
  refuses("1.", "digit expected", 1, 3);
  refuses("1e+", "digit expected", 1, 4);
  refuses("nul", "value expected", 1, 1);
  refuses("NaN", "value expected", 1, 1);
  refuses("\"a", "the string does not end", 1, 3);
  refuses("\"\\", "the string does not end", 1, 3);
  refuses("\"\\x\"", "unknown escape", 1, 4);
  refuses("\"\\u12g4\"", "four hexadecimal digits expected", 1, 4);
  refuses("\"\\u12", "four hexadecimal digits expected", 1, 4);
  refuses("\"\\ud800\"", "half a surrogate pair", 1, 8);
  refuses("\"\\ud800\\u0041\"", "half a surrogate pair", 1, 8);
  refuses("\"\\udc00\"", "half a surrogate pair", 1, 8);
  refuses("\"a\nb\"", "control character in a string", 1, 3);
  refuses("\"\xff\"", "not UTF-8", 1, 2);
  char deep[200];
  memset(deep, '[', sizeof deep - 1);
  deep[sizeof deep - 1] = 0;
  refuses(deep, "nested too deeply", 1, 129);
}

static void values_have_types(void) {
  assert(wabbit_json_typeof(parse(" {} ")) == WABBIT_JSON_OBJECT);
  assert(wabbit_json_typeof(parse("[[],{}]")) == WABBIT_JSON_ARRAY);
  assert(wabbit_json_typeof(parse("\"\"")) == WABBIT_JSON_STRING);
  assert(wabbit_json_typeof(parse("-0.5e-3")) == WABBIT_JSON_NUMBER);
  assert(wabbit_json_typeof(parse("true")) == WABBIT_JSON_BOOL);
  assert(wabbit_json_typeof(parse("\n null\t")) == WABBIT_JSON_NULL);
  assert(wabbit_json_typeof((wabbit_json){0}) == WABBIT_JSON_MISSING);
}

static bool member_is(const char *object, const char *name, const char *text) {
  return wabbit_is(wabbit_json_get(parse(object), name).text, text);
}

static void members_are_found(void) {
  assert(member_is("{\"a\": 1, \"b\": {\"c\": [1, {\"d\": \"}\"}]}, \"c\" : 2 }", "c", "2"));
  assert(member_is("{\"a\":\"\\\"b\\\"\",\"b\":true}", "b", "true"));
  assert(member_is("{\"a\": 1, \"a\": 2}", "a", "2"));
  assert(member_is("{\"\\u0061\\n\": 1}", "a\n", "1"));
  assert(member_is("{\"\\n\": 1}", "\\n", ""));
  assert(member_is("{\"\": [ ]}", "", "[ ]"));
  assert(member_is("{\"A\": 1}", "a", ""));
  assert(member_is("[1]", "a", ""));
  assert(member_is("\"a\"", "a", ""));
}

static void containers_are_gone_through(void) {
  wabbit_json_each each = {.of = parse("[1, \"a,b\" ,[2,3], {\"x\":[]} ]")};
  const char *expected[] = {"1", "\"a,b\"", "[2,3]", "{\"x\":[]}"};
  for (size_t i = 0; i < 4; i++) {
    assert(wabbit_json_next(&each));
    assert(wabbit_is(each.value.text, expected[i]));
    assert(wabbit_json_typeof(each.key) == WABBIT_JSON_MISSING);
  }
  assert(!wabbit_json_next(&each));

  each = (wabbit_json_each){.of = parse("{ \"a\" : 1,\"b\":null}")};
  assert(wabbit_json_next(&each) && wabbit_is(each.key.text, "\"a\"") && wabbit_is(each.value.text, "1"));
  assert(wabbit_json_next(&each) && wabbit_is(each.key.text, "\"b\"") && wabbit_is(each.value.text, "null"));
  assert(!wabbit_json_next(&each));

  each = (wabbit_json_each){.of = parse("[ ]")};
  assert(!wabbit_json_next(&each));
  each = (wabbit_json_each){.of = parse("1")};
  assert(!wabbit_json_next(&each));
}

static bool integer_is(const char *text, int64_t expected) {
  int64_t value;
  return wabbit_json_integer(parse(text), &value) && value == expected;
}

static void numbers_are_exact(void) {
  int64_t integer;
  assert(integer_is("0", 0) && integer_is("-0", 0) && integer_is("-17", -17));
  assert(integer_is("9223372036854775807", INT64_MAX) && integer_is("-9223372036854775808", INT64_MIN));
  assert(!wabbit_json_integer(parse("9223372036854775808"), &integer));
  assert(!wabbit_json_integer(parse("-9223372036854775809"), &integer));
  assert(!wabbit_json_integer(parse("99999999999999999999"), &integer));
  assert(!wabbit_json_integer(parse("1.0"), &integer) && !wabbit_json_integer(parse("1e3"), &integer));
  assert(!wabbit_json_integer(parse("\"1\""), &integer));

  double number;
  assert(wabbit_json_double(parse("-1.25e2"), &number) && number == -125);
  assert(wabbit_json_double(parse("[0.1]"), &number) == false);
  char longer[100] = "0.1000000000000000000000000000000000000000000000000000000000000000000000000000000e1";
  assert(wabbit_json_double(parse(longer), &number) && number == 1);
}

static void string_is(const char *json, const char *expected, size_t len) {
  wabbit_call *call = wabbit_call_new();
  wabbit_str text;
  assert(wabbit_json_string(call, parse(json), &text));
  assert(text.len == len && memcmp(text.ptr, expected, len) == 0);
  wabbit_call_free(call);
}

static void strings_lose_their_escapes(void) {
  string_is("\"\"", "", 0);
  string_is("\"plain \xc3\xa4\"", "plain \xc3\xa4", 8);
  string_is("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8);
  string_is("\"a\\u0000b\"", "a\0b", 3);
  string_is("\"\\u00e4\\u20AC\\ud83d\\ude00!\"", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80!", 10);
}

static void need(const char *body, const char *name, const char *reason) {
  wabbit_call *call = wabbit_call_new();
  wabbit_delivery delivery = wabbit_delivery_of(body);
  wabbit_json value;
  wabbit_str text;
  bool good = wabbit_body_json(call, &delivery, &value) && wabbit_need_string(call, value, name, &text);
  const wabbit_result *result = wabbit_call_result(call);
  assert(good == (reason == NULL));
  if (!good) {
    assert(!result->failed && result->outcome.settlement.kind == WABBIT_DEAD_LETTER);
    assert(wabbit_is(result->outcome.settlement.reason, reason));
  }
  wabbit_call_free(call);
}

static void a_body_that_is_not_as_needed_is_dead_lettered(void) {
  need("{\"id\": \"7\"}", "id", NULL);
  need("{\"id\": \"7\"", "id", "the body is not JSON: `,` or `}` expected at line 1 column 11");
  need("{\"id\": 7}", "id", "the body is not the JSON expected: field `id` is not a string");
  need("{\"id\": \"7\"}", "name", "the body is not the JSON expected: missing field `name`");
  need("[]", "name", "the body is not the JSON expected: missing field `name`");
}

static void what_is_written_can_be_read(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_json_writer out = wabbit_json_write(call);
  wabbit_json_begin_object(&out);
  wabbit_json_key(&out, "a\"");
  wabbit_json_begin_array(&out);
  wabbit_json_put_integer(&out, INT64_MIN);
  wabbit_json_put_double(&out, 0.1);
  wabbit_json_put_double(&out, 1.0 / 3);
  wabbit_json_put_double(&out, NAN);
  wabbit_json_put_bool(&out, true);
  wabbit_json_put_bool(&out, false);
  wabbit_json_put_null(&out);
  wabbit_json_begin_object(&out);
  wabbit_json_end_object(&out);
  wabbit_json_end_array(&out);
  wabbit_json_key(&out, "b");
  wabbit_json_put_string(&out, (wabbit_str){"\"\\/\b\f\n\r\t\v\0\x1f\x7f\xc3\xa4\xff!", 16});
  wabbit_json_key(&out, "c");
  wabbit_json_put(&out, parse(" [1, 2] "));
  wabbit_json_key(&out, "d");
  wabbit_json_put(&out, (wabbit_json){0});
  wabbit_json_end_object(&out);
  const char *expected =
      "{\"a\\\"\":[-9223372036854775808,0.1,0.3333333333333333,null,true,false,null,{}],"
      "\"b\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u000b\\u0000\\u001f\x7f\xc3\xa4\xef\xbf\xbd!\",\"c\":[1, 2],\"d\":null}";
  assert(wabbit_is(wabbit_json_done(&out), expected));
  parse(expected);

  const wabbit_publication *publication = wabbit_publish_json(call, "mail", "new", &out);
  assert(wabbit_is(publication->body, expected));
  assert(wabbit_is(publication->properties.content_type.value, "application/json"));
  wabbit_call_free(call);
}

static void much_can_be_written(void) {
  wabbit_call *call = wabbit_call_new();
  wabbit_json_writer out = wabbit_json_write(call);
  wabbit_json_begin_array(&out);
  for (int64_t i = 0; i < 10000; i++) {
    wabbit_alloc(call, 100);
    wabbit_json_put_integer(&out, i);
  }
  wabbit_json_end_array(&out);
  wabbit_json value;
  assert(wabbit_json_parse(wabbit_json_done(&out), &value, NULL));
  int64_t count = 0, read;
  for (wabbit_json_each each = {.of = value}; wabbit_json_next(&each); count++)
    assert(wabbit_json_integer(each.value, &read) && read == count);
  assert(count == 10000);
  wabbit_call_free(call);
}

int main(void) {
  what_is_not_json_is_refused();
  values_have_types();
  members_are_found();
  containers_are_gone_through();
  numbers_are_exact();
  strings_lose_their_escapes();
  a_body_that_is_not_as_needed_is_dead_lettered();
  what_is_written_can_be_read();
  much_can_be_written();
}
