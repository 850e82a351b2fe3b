// The cases of wasi:http's error-code, in words.

import { optionalTextAt } from "./layout";
import { ProblemKind } from "./result";

/** What the error-code there says, with what it carries. */
export function textOf(at: usize): string {
  const code = <i32>load<u8>(at);
  // What is carried stands behind the case, aligned for the widest one.
  const carried = at + 8;
  let more: string | null = null;
  switch (code) {
    case 1: case 31: case 32: case 38: more = optionalTextAt(carried); break;
    case 14: more = optionalTextAt(carried + 4); break;
    case 21: case 23: case 26: case 29:
      if (load<u8>(carried) != 0) more = load<u32>(carried, 4).toString();
      break;
    case 17: case 28:
      if (load<u8>(carried) != 0) more = load<u64>(carried, 8).toString();
      break;
  }
  return more === null ? words(code) : words(code) + ": " + more;
}

/** What the error-code there is for a handler. */
export function kindOf(at: usize): ProblemKind {
  switch (<i32>load<u8>(at)) {
    case 4: case 15:
      return ProblemKind.NotGranted;
    case 16: case 18: case 19: case 20:
      return ProblemKind.Request;
    case 0: case 8: case 9: case 10: case 33:
      return ProblemKind.Timeout;
    case 17: case 21: case 22: case 23: case 24: case 26: case 27: case 28: case 29: case 30:
      return ProblemKind.TooLarge;
    case 1: case 2: case 3: case 5: case 6: case 7: case 11: case 12: case 13: case 14: case 25:
      return ProblemKind.Connection;
    default:
      return ProblemKind.Other;
  }
}

/** In a switch, so that a handler that sends no requests has none of it. */
function words(code: i32): string {
  switch (code) {
    case 0: return "DNS timeout";
    case 1: return "DNS error";
    case 2: return "destination not found";
    case 3: return "destination unavailable";
    case 4: return "its address is of a network that the manifest's `[grant] http` does not name";
    case 5: return "destination IP unroutable";
    case 6: return "connection refused";
    case 7: return "connection terminated";
    case 8: return "connection timeout";
    case 9: return "connection read timeout";
    case 10: return "connection write timeout";
    case 11: return "connection limit reached";
    case 12: return "TLS protocol error";
    case 13: return "TLS certificate error";
    case 14: return "TLS alert received";
    case 15: return "not granted by the manifest's `[grant] http`";
    case 16: return "HTTP request length required";
    case 17: return "HTTP request body size";
    case 18: return "HTTP request method invalid";
    case 19: return "HTTP request URI invalid";
    case 20: return "HTTP request URI too long";
    case 21: return "HTTP request header section size";
    case 22: return "HTTP request header size";
    case 23: return "HTTP request trailer section size";
    case 24: return "HTTP request trailer size";
    case 25: return "HTTP response incomplete";
    case 26: return "HTTP response header section size";
    case 27: return "HTTP response header size";
    case 28: return "HTTP response body size";
    case 29: return "HTTP response trailer section size";
    case 30: return "HTTP response trailer size";
    case 31: return "HTTP response transfer coding";
    case 32: return "HTTP response content coding";
    case 33: return "HTTP response timeout";
    case 34: return "HTTP upgrade failed";
    case 35: return "HTTP protocol error";
    case 36: return "loop detected";
    case 37: return "configuration error";
    case 38: return "internal error";
    default: return "an error that is not known: " + code.toString();
  }
}
