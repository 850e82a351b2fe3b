/** Files in the folders of the manifest's `[grant] files`. */

import * as host from "#files";
import { decode } from "#host";
import { bytesOf, textOf } from "./bytes.js";
import { FileError } from "./error.js";

/** Does it, and says what was not done where it fails. */
function attempt(what, path, action, ...more) {
  const paths = [path, ...more].map((text) => textOf(text, "a path"));
  try {
    return action(...paths);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    const reason = error.code === "not-granted" ? "the manifest grants no folder that it is in" : error.code;
    throw new FileError(error.code, `cannot ${what} \`${path}\`: ${reason}`, { cause: error.cause });
  }
}

export const files = {
  read: (path) => attempt("read", path, host.read),

  readText(path) {
    const text = decode(files.read(path));
    if (text === undefined) throw new FileError("illegal-byte-sequence", `\`${path}\` is not UTF-8 text`);
    return text;
  },

  write(path, data) {
    const bytes = bytesOf(data, "what is written");
    attempt("write", path, (path) => host.write(path, bytes));
  },

  append(path, data) {
    const bytes = bytesOf(data, "what is appended");
    attempt("append to", path, (path) => host.append(path, bytes));
  },

  rename: (from, to) => attempt("rename", from, host.rename, to),

  delete: (path) => attempt("delete", path, host.remove),

  list: (path) => attempt("list", path, host.list).sort(),

  makeFolder: (path) => attempt("make the folder", path, host.makeFolder),
};
