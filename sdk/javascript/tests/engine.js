/** What the engine has, and Node.js has not, or only from version 20 on. */

globalThis.InternalError ??= class InternalError extends Error {};

String.prototype.toWellFormed ??= function toWellFormed() {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new TextEncoder().encode(this));
};
