/** The stand-in for granted folders in tests: files by their whole path, in memory. */

import { FileError } from "../error.js";
import { state } from "./state.js";

/** The path without `.`, `..` and doubled slashes. */
export function plain(path) {
  const names = [];
  for (const name of path.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(name);
  }
  return `/${names.join("/")}`;
}

const parent = (path) => path.slice(0, path.lastIndexOf("/")) || "/";

/** The plain path, where it is within a folder that is granted. */
function granted(path) {
  const found = plain(path);
  if (!state.folders.some((folder) => found === folder || found.startsWith(`${folder}/`))) {
    throw new FileError("not-granted");
  }
  return found;
}

/** The same of a file that is to be written. Folders are in `files`, too, without content. */
function target(path) {
  const found = granted(path);
  if (state.files.get(found) === null) throw new FileError("is-directory");
  if (state.files.get(parent(found)) !== null) throw new FileError("no-entry");
  return found;
}

export function read(path) {
  const content = state.files.get(granted(path));
  if (content === undefined) throw new FileError("no-entry");
  if (content === null) throw new FileError("is-directory");
  return content.slice();
}

export const write = (path, bytes) => state.files.set(target(path), bytes.slice());

export function append(path, bytes) {
  const found = target(path);
  const old = state.files.get(found) ?? new Uint8Array(0);
  const whole = new Uint8Array(old.length + bytes.length);
  whole.set(old);
  whole.set(bytes, old.length);
  state.files.set(found, whole);
}

export function rename(from, to) {
  const content = read(from);
  state.files.set(target(to), content);
  if (granted(from) !== granted(to)) state.files.delete(granted(from));
}

export function remove(path) {
  read(path);
  state.files.delete(granted(path));
}

export function list(path) {
  const folder = granted(path);
  const content = state.files.get(folder);
  if (content === undefined) throw new FileError("no-entry");
  if (content !== null) throw new FileError("not-directory");
  const inside = [...state.files.keys()].filter((known) => known !== folder && parent(known) === folder);
  return inside.map((known) => known.slice(known.lastIndexOf("/") + 1));
}

export function makeFolder(path) {
  const found = granted(path);
  if (state.files.get(found) === null) return;
  if (state.files.has(found)) throw new FileError("not-directory");
  makeFolder(parent(found));
  state.files.set(found, null);
}
