/** Files, in a plugin. In tests src/testing/files.js stands in for it. */

import { getDirectories } from "wasi:filesystem/preopens@0.2.0";
import { filesystemErrorCode } from "wasi:filesystem/types@0.2.0";
import { FileError } from "../src/error.js";
import { duringCall } from "./phase.js";
import { joined } from "./pieces.js";

/** What is read and written at once. */
const CHUNK_BYTES = 64 * 1024;
/** What one call of a stream takes. */
const STREAM_BYTES = 4096;

const FOLLOW = { symlinkFollow: true };

/** Does something in the folder that the path is in, with what is left of the path. */
function within(path, action) {
  duringCall("files");
  const whole = path.startsWith("/") ? path : `/${path}`;
  const folders = getDirectories();
  try {
    let best;
    for (const [folder, name] of folders) {
      const prefix = name.endsWith("/") ? name : `${name}/`;
      const inside = whole.startsWith(prefix) || `${whole}/` === prefix;
      if (inside && (best === undefined || prefix.length > best.prefix.length)) best = { folder, prefix };
    }
    if (best === undefined) throw new FileError("not-granted");
    return action(best.folder, whole.slice(best.prefix.length) || ".");
  } catch (error) {
    if (typeof error.payload === "string") throw new FileError(error.payload, "", { cause: error });
    throw error;
  } finally {
    for (const [folder] of folders) folder[Symbol.dispose]();
  }
}

export const read = (path) =>
  within(path, (folder, rest) => {
    using file = folder.openAt(FOLLOW, rest, {}, { read: true });
    const pieces = [];
    for (let at = 0; ; ) {
      const [piece, ended] = readFrom(file, at);
      pieces.push(piece);
      if (ended) return joined(pieces);
      at += piece.length;
    }
  });

function readFrom(file, at) {
  try {
    return file.read(CHUNK_BYTES, at);
  } catch (error) {
    // What can be opened for reading, and not be read.
    throw error.payload === "bad-descriptor" ? new FileError("is-directory") : error;
  }
}

export const write = (path, bytes) =>
  within(path, (folder, rest) => {
    using file = folder.openAt(FOLLOW, rest, { create: true, truncate: true }, { write: true });
    for (let at = 0; at < bytes.length; ) at += file.write(bytes.subarray(at, at + CHUNK_BYTES), at);
  });

export const append = (path, bytes) =>
  within(path, (folder, rest) => {
    using file = folder.openAt(FOLLOW, rest, { create: true }, { write: true });
    using stream = file.appendViaStream();
    try {
      for (let at = 0; at < bytes.length; at += STREAM_BYTES) {
        stream.blockingWriteAndFlush(bytes.subarray(at, at + STREAM_BYTES));
      }
    } catch (error) {
      const { tag, val } = error.payload ?? {};
      if (tag === undefined) throw error;
      throw new FileError((tag === "last-operation-failed" && filesystemErrorCode(val)) || "io");
    }
  });

export const rename = (from, to) =>
  within(from, (folder, rest) => within(to, (other, otherRest) => folder.renameAt(rest, other, otherRest)));

export const remove = (path) => within(path, (folder, rest) => folder.unlinkFileAt(rest));

export const list = (path) =>
  within(path, (folder, rest) => {
    using opened = folder.openAt(FOLLOW, rest, { directory: true }, { read: true });
    using entries = opened.readDirectory();
    const names = [];
    for (let entry = entries.readDirectoryEntry(); entry !== null; entry = entries.readDirectoryEntry()) {
      names.push(entry.name);
    }
    return names;
  });

/** With those that it is in. */
export const makeFolder = (path) =>
  within(path, (folder, rest) => {
    let made = "";
    for (const name of rest.split("/")) {
      made += made === "" ? name : `/${name}`;
      try {
        if (name !== "" && name !== "." && name !== "..") folder.createDirectoryAt(made);
      } catch (error) {
        if (error.payload !== "exist") throw error;
      }
    }
  });
