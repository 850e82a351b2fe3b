// The folders that a manifest's `[grant] files` gives, in memory, for tests under node (testing.mjs): as much of WASI
// preview 1 as the library's files take.

const [BADF, EXIST, ISDIR, NOENT, NOTCAPABLE] = [8, 20, 31, 44, 76];
const FIRST = 3;
const [CREATE, , EXCLUSIVE, TRUNCATE] = [1, 2, 4, 8];
const APPEND = 1;

/** `granted` has a folder's files by the name that the handler knows the folder by. */
export function folders(granted, memory) {
  const names = Object.keys(granted);
  const open = new Map();
  let next = FIRST + names.length;
  const view = () => memory.view();
  const folder = (descriptor) => granted[names[descriptor - FIRST]];
  const textAt = (address, length) => Buffer.from(memory.at(address, length)).toString();
  /** The parts of a list of addresses and lengths. */
  const parts = (list, count) => Array.from({ length: count }, (_, i) => {
    return memory.at(view().getUint32(list + i * 8, true), view().getUint32(list + i * 8 + 4, true));
  });
  const inside = (path) => path !== "" && !path.startsWith("/") && !path.split("/").includes("..");
  const done = (at, bytes) => (view().setUint32(at, bytes, true), 0);

  return {
    fd_prestat_get: (descriptor, result) => {
      if (!folder(descriptor)) return BADF;
      view().setUint8(result, 0);
      return done(result + 4, Buffer.byteLength(names[descriptor - FIRST]));
    },
    fd_prestat_dir_name: (descriptor, address, length) => {
      if (!folder(descriptor)) return BADF;
      memory.at(address, length).set(Buffer.from(names[descriptor - FIRST]).subarray(0, length));
      return 0;
    },
    path_open: (descriptor, _follow, address, length, how, _rights, _inheriting, flags, result) => {
      const files = folder(descriptor);
      if (!files) return BADF;
      const path = textAt(address, length);
      if (!inside(path)) return NOTCAPABLE;
      if (path in files && how & EXCLUSIVE) return EXIST;
      if (!(path in files) && !(how & CREATE)) return NOENT;
      if (!(path in files) || how & TRUNCATE) files[path] = Buffer.alloc(0);
      open.set(next, { files, path, at: 0, append: (flags & APPEND) !== 0 });
      return done(result, next++);
    },
    fd_close: (descriptor) => (open.delete(descriptor) ? 0 : BADF),
    fd_read: (descriptor, list, count, result) => {
      const file = open.get(descriptor);
      if (!file) return folder(descriptor) ? ISDIR : BADF;
      let bytes = 0;
      for (const part of parts(list, count)) {
        const read = Buffer.from(file.files[file.path]).subarray(file.at, file.at + part.length);
        part.set(read);
        file.at += read.length;
        bytes += read.length;
      }
      return done(result, bytes);
    },
    fd_write: (descriptor, list, count, result) => {
      const file = open.get(descriptor);
      if (!file) return BADF;
      const written = Buffer.concat(parts(list, count));
      const before = Buffer.from(file.files[file.path]);
      const at = file.append ? before.length : file.at;
      file.files[file.path] = Buffer.concat([before.subarray(0, at), written, before.subarray(at + written.length)]);
      file.at = at + written.length;
      return done(result, written.length);
    },
    path_rename: (from, address, length, to, newAddress, newLength) => {
      const [before, after] = [folder(from), folder(to)];
      const [path, newPath] = [textAt(address, length), textAt(newAddress, newLength)];
      if (!before || !after) return BADF;
      if (!inside(path) || !inside(newPath)) return NOTCAPABLE;
      if (!(path in before)) return NOENT;
      after[newPath] = before[path];
      if (before !== after || path !== newPath) delete before[path];
      return 0;
    },
    path_unlink_file: (descriptor, address, length) => {
      const files = folder(descriptor);
      const path = textAt(address, length);
      if (!files) return BADF;
      if (!inside(path)) return NOTCAPABLE;
      if (!(path in files)) return NOENT;
      delete files[path];
      return 0;
    },
  };
}
