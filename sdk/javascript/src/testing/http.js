/** The stand-in for servers in tests: a function of the test's. */

import { HttpError } from "../error.js";
import { responseOf } from "../http.js";
import { state } from "./state.js";

export function send(request) {
  if (state.answer === undefined) {
    throw new HttpError("connection", "nobody answers: a test says how, by `provide({ http })`");
  }
  return responseOf(state.answer(request));
}
