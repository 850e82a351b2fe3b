/** What a handler may ask about its call. */

import { remainingMs, workerName } from "#host";

export const context = {
  worker: () => workerName(),
  remainingMs: () => remainingMs(),
};
