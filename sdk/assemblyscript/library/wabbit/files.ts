// Files in the folders that the manifest's `[grant] files` lists, by their names there, such as `/reports/today.txt`.
// What is written takes effect at once, not with the settlement.

import { ProblemKind, Result, failed } from "./result";
import { decodeUtf8, encodeUtf8 } from "./utf8";

@external("wasi_snapshot_preview1", "fd_prestat_get")
declare function prestatGet(descriptor: u32, result: usize): u32;
@external("wasi_snapshot_preview1", "fd_prestat_dir_name")
declare function prestatName(descriptor: u32, name: usize, length: u32): u32;
@external("wasi_snapshot_preview1", "path_open")
declare function pathOpen(
  folder: u32, follow: u32, path: usize, length: u32, how: u32, rights: u64, inherited: u64, flags: u32, result: usize,
): u32;
@external("wasi_snapshot_preview1", "fd_read")
declare function fdRead(descriptor: u32, list: usize, count: u32, result: usize): u32;
@external("wasi_snapshot_preview1", "fd_write")
declare function fdWrite(descriptor: u32, list: usize, count: u32, result: usize): u32;
@external("wasi_snapshot_preview1", "fd_close")
declare function fdClose(descriptor: u32): u32;
@external("wasi_snapshot_preview1", "path_rename")
declare function pathRename(folder: u32, path: usize, length: u32, to: u32, newPath: usize, newLength: u32): u32;
@external("wasi_snapshot_preview1", "path_unlink_file")
declare function pathUnlink(folder: u32, path: usize, length: u32): u32;

const FOLLOW: u32 = 1;
const CREATE: u32 = 1;
const TRUNCATE: u32 = 8;
const APPEND: u32 = 1;
const RIGHT_READ: u64 = 1 << 1;
const RIGHT_WRITE: u64 = 1 << 6;
/** How much is read at once. */
const CHUNK_BYTES: u32 = 64 << 10;

/** The whole of a file. */
export function readFile(path: string): Result<Uint8Array> {
  const file = new File("read", path, 0, RIGHT_READ, 0);
  let bytes = new Uint8Array(CHUNK_BYTES);
  let length: u32 = 0;
  while (file.error == 0) {
    if (length == <u32>bytes.length) {
      const larger = new Uint8Array(bytes.length * 2);
      larger.set(bytes);
      bytes = larger;
    }
    const read = file.read(bytes.dataStart + length, <u32>bytes.length - length);
    if (read == 0) break;
    length += read;
  }
  if (!file.close()) return file.failure<Uint8Array>();
  return new Result<Uint8Array>(bytes.subarray(0, length));
}

/** The whole of a file as text. */
export function readTextFile(path: string): Result<string> {
  const read = readFile(path);
  const problem = read.problem;
  if (problem !== null) return failed<string>(problem, read.kind);
  const text = decodeUtf8(read.value.dataStart, read.value.length);
  return text === null ? failed<string>(`cannot read ${path}: it is not UTF-8 text`) : new Result<string>(text);
}

/**
 * Writes a file, in place of one that is there. A handler can be cut off in the middle: a file that others read is to
 * be written under another name and renamed.
 */
export function writeFile(path: string, bytes: Uint8Array): Result<bool> {
  return write(new File("write", path, CREATE | TRUNCATE, RIGHT_WRITE, 0), bytes);
}

/** The same of a text. */
export function writeTextFile(path: string, text: string): Result<bool> {
  return writeFile(path, Uint8Array.wrap(encodeUtf8(text)));
}

/** Adds to the end of a file, or begins one. */
export function appendFile(path: string, bytes: Uint8Array): Result<bool> {
  return write(new File("write", path, CREATE, RIGHT_WRITE, APPEND), bytes);
}

/** Gives a file another name, in place of one that is there. */
export function renameFile(from: string, to: string): Result<bool> {
  const old = new Place("rename", from);
  const place = new Place("rename", to);
  if (old.error != 0) return old.done();
  if (place.error != 0) return place.done();
  old.error = pathRename(old.folder, old.start, old.length, place.folder, place.start, place.length);
  return old.done();
}

/** Removes a file. */
export function removeFile(path: string): Result<bool> {
  const place = new Place("remove", path);
  if (place.error == 0) place.error = pathUnlink(place.folder, place.start, place.length);
  return place.done();
}

function write(file: File, bytes: Uint8Array): Result<bool> {
  let from = bytes.dataStart;
  let left = <u32>bytes.length;
  while (file.error == 0 && left > 0) {
    const written = file.write(from, left);
    from += written;
    left -= written;
  }
  file.close();
  return file.done();
}

/** A path within a granted folder, and what has gone wrong with it. */
class Place {
  folder: u32 = 0;
  error: u32 = 0;
  private relative: ArrayBuffer = new ArrayBuffer(0);

  constructor(
    private action: string,
    private path: string,
  ) {
    // Folders come from descriptor 3 on; the innermost one counts.
    const stat = memory.data(8);
    let longest = -1;
    let rest = "";
    for (let folder: u32 = 3; prestatGet(folder, stat) == 0; folder++) {
      const bytes = new ArrayBuffer(load<u32>(stat, 4));
      if (prestatName(folder, changetype<usize>(bytes), bytes.byteLength) != 0) continue;
      let name = String.UTF8.decode(bytes);
      if (!name.endsWith("/")) name += "/";
      if (name.length <= longest || !path.startsWith(name)) continue;
      longest = name.length;
      rest = path.substring(name.length);
      this.folder = folder;
    }
    if (longest < 0 || rest == "") this.error = longest < 0 ? NOTCAPABLE : ISDIR;
    else this.relative = encodeUtf8(rest);
  }

  get start(): usize {
    return changetype<usize>(this.relative);
  }

  get length(): u32 {
    return this.relative.byteLength;
  }

  /** Keeps the first error. */
  check(error: u32): void {
    if (this.error == 0) this.error = error;
  }

  done(): Result<bool> {
    return this.error == 0 ? new Result<bool>(true) : this.failure<bool>();
  }

  failure<T>(): Result<T> {
    return failed<T>(`cannot ${this.action} ${this.path}: ${words(this.error)}`, kindOf(this.error));
  }
}

class File extends Place {
  private descriptor: u32 = 0;

  constructor(action: string, path: string, how: u32, rights: u64, flags: u32) {
    super(action, path);
    const result = memory.data(4);
    if (this.error == 0) {
      this.error = pathOpen(this.folder, FOLLOW, this.start, this.length, how, rights, 0, flags, result);
    }
    if (this.error == 0) this.descriptor = load<u32>(result);
  }

  /** How many bytes were read; 0 at the end, or where it failed. */
  read(to: usize, most: u32): u32 {
    const list = memory.data(12);
    store<u32>(list, <u32>to);
    store<u32>(list, most, 4);
    this.check(fdRead(this.descriptor, list, 1, list + 8));
    return this.error == 0 ? load<u32>(list, 8) : 0;
  }

  /** How many bytes were written. */
  write(from: usize, most: u32): u32 {
    const list = memory.data(12);
    store<u32>(list, <u32>from);
    store<u32>(list, most, 4);
    this.check(fdWrite(this.descriptor, list, 1, list + 8));
    return this.error == 0 ? load<u32>(list, 8) : 0;
  }

  /** Whether all went well. */
  close(): bool {
    if (this.descriptor != 0) this.check(fdClose(this.descriptor));
    return this.error == 0;
  }
}

// Errors of WASI.
const ACCES: u32 = 2;
const BADF: u32 = 8;
const DQUOT: u32 = 19;
const EXIST: u32 = 20;
const FBIG: u32 = 22;
const INVAL: u32 = 28;
const ISDIR: u32 = 31;
const NAMETOOLONG: u32 = 37;
const NOENT: u32 = 44;
const NOSPC: u32 = 51;
const NOTDIR: u32 = 54;
const PERM: u32 = 63;
const ROFS: u32 = 69;
const NOTCAPABLE: u32 = 76;

function kindOf(error: u32): ProblemKind {
  if (error == NOENT) return ProblemKind.Missing;
  if (error == ACCES || error == BADF || error == PERM || error == ROFS || error == NOTCAPABLE) {
    return ProblemKind.NotGranted;
  }
  return error == NOSPC || error == DQUOT || error == FBIG ? ProblemKind.TooLarge : ProblemKind.Other;
}

function words(error: u32): string {
  switch (error) {
    case ACCES: case BADF: case PERM: case ROFS: return "not granted";
    case NOTCAPABLE: return "it is in no folder that the manifest grants";
    case NOSPC: case DQUOT: return "the folder is full";
    case FBIG: return "it would be too large";
    case EXIST: return "it is there already";
    case INVAL: return "it cannot have that name";
    case ISDIR: return "it is a folder";
    case NAMETOOLONG: return "its name is too long";
    case NOENT: return "there is no such file";
    case NOTDIR: return "a part of the path is no folder";
    default: return "error " + error.toString() + " of WASI";
  }
}
