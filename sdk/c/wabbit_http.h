/* HTTP requests, to the origins that the manifest's `[grant] http` lists.
 *
 * A request takes place at once, not with the settlement: a delivery that is tried again sends it again. Redirects are
 * not followed; the response says where it points to in its header `location`.
 *
 * Where one of these returns false, the delivery has failed, with the reason; a handler that can do without settles it
 * otherwise. A handler that calls none of them imports nothing for them. */
#ifndef WABBIT_HTTP_H
#define WABBIT_HTTP_H

#include "wabbit.h"
#include "wabbit_json.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A request to be sent. What it points to has to live until then. */
typedef struct wabbit_request {
  /* Such as `GET`. */
  wabbit_str method;
  /* `https://HOST/PATH?QUERY`, or `http://…`. What has a meaning there is written as `%xx`. */
  wabbit_str url;
  /* `host` and what concerns the connection is the host's to say. */
  wabbit_pairs headers;
  /* Empty for none. */
  wabbit_str body;
  /* How long each of connecting, waiting for the response and waiting for its next part may take; 0 leaves it to the
   * host. The delivery's time bounds it all. */
  uint32_t timeout_ms;
} wabbit_request;

/* Why there is no response, for the handler to act upon. */
typedef enum wabbit_http_error {
  WABBIT_HTTP_OK,
  /* The manifest does not list the origin, or its address is of a network that it does not list. */
  WABBIT_HTTP_NOT_GRANTED,
  /* The request has no form that could be sent: its URL, its method or a header. */
  WABBIT_HTTP_REQUEST,
  /* The server cannot be found or reached. */
  WABBIT_HTTP_CONNECTION,
  /* Somebody took too long. */
  WABBIT_HTTP_TIMEOUT,
  /* The body of the request or of the response is larger than the host allows. */
  WABBIT_HTTP_TOO_LARGE,
  WABBIT_HTTP_OTHER,
} wabbit_http_error;

/* What came back. It lives as long as the call. */
typedef struct wabbit_response {
  /* Such as 200; 0 where there is no response. */
  uint16_t status;
  /* Why not. */
  wabbit_http_error error;
  /* Names are in lower case. */
  wabbit_pairs headers;
  /* The whole of it. */
  wabbit_str body;
} wabbit_response;

/* ---- requests ---- */

wabbit_request wabbit_request_of(const char *method, wabbit_str url);
/* Adds a parameter to the URL's query, whatever signs are in it. */
void wabbit_request_query(wabbit_call *call, wabbit_request *request, const char *name, wabbit_str value);
/* Adds a header. */
void wabbit_request_header(wabbit_call *call, wabbit_request *request, const char *name, wabbit_str value);
/* Adds the header `authorization` with that token. */
void wabbit_request_bearer(wabbit_call *call, wabbit_request *request, wabbit_str token);
/* Sets the body to that text or JSON, with its content type. */
void wabbit_request_text(wabbit_call *call, wabbit_request *request, wabbit_str text);
void wabbit_request_json(wabbit_call *call, wabbit_request *request, const wabbit_json_writer *json);

/* Sends it, and waits for the whole response, whatever its status. False where there is none. */
bool wabbit_send(wabbit_call *call, const wabbit_request *request, wabbit_response *response);
/* Gets that URL. */
bool wabbit_get(wabbit_call *call, const char *url, wabbit_response *response);

/* ---- responses ---- */

/* Whether the status is one of 200 to 299. Else the delivery has failed, with the beginning of the body. */
bool wabbit_success(wabbit_call *call, const wabbit_response *response);
/* The first header of that name, in whatever case. */
bool wabbit_response_header(const wabbit_response *response, const char *name, wabbit_str *value);
/* The body as UTF-8, or as JSON. Where it is something else, the delivery has failed. */
bool wabbit_response_text(wabbit_call *call, const wabbit_response *response, wabbit_str *text);
bool wabbit_response_json(wabbit_call *call, const wabbit_response *response, wabbit_json *value);

#ifndef __wasm__
/* For tests: answers all requests, until another function or NULL is set. It fills in the response and returns true; or
 * says what went wrong by `wabbit_fail` and, if it likes, `response->error`, and returns false. */
typedef bool wabbit_answering(void *argument, wabbit_call *call, const wabbit_request *request,
                              wabbit_response *response);
void wabbit_answer(wabbit_answering *answer, void *argument);
#endif

#ifdef __cplusplus
}
#endif
#endif
