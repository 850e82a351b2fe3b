// As much of WASI preview 1 as Go's runtime asks for beside `fd_write`, for `load` of testing.mjs.

import crypto from "node:crypto";

export const wasi = (memory) => {
  const view = () => new DataView(memory().buffer);
  const none = (count, bytes) => (view().setUint32(count, 0, true), view().setUint32(bytes, 0, true), 0);
  const BADF = 8;
  return {
    args_sizes_get: none,
    environ_sizes_get: none,
    args_get: () => 0,
    environ_get: () => 0,
    clock_time_get: (_id, _precision, to) => (view().setBigUint64(to, process.hrtime.bigint(), true), 0),
    random_get: (to, length) => (crypto.randomFillSync(new Uint8Array(memory().buffer, to, length)), 0),
    fd_fdstat_get: (descriptor, to) => (descriptor < 3 ? (view().setUint8(to, 2), 0) : BADF),
    fd_fdstat_set_flags: () => 0,
    fd_filestat_get: () => BADF,
    path_filestat_get: () => BADF,
    poll_oneoff: () => 0,
    sched_yield: () => 0,
  };
};
