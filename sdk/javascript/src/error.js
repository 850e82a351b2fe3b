/** Errors that the SDK knows. */

/** An error that another try would not mend: the delivery goes to the dead-letter queue, with this reason. */
export class DeadLetterError extends Error {
  constructor(reason, options) {
    super(reason, options);
    this.name = "DeadLetterError";
  }
}

/** Why there is no response to a request, or not the one that was wanted. */
export class HttpError extends Error {
  constructor(kind, message, options = {}) {
    super(message, options);
    this.name = "HttpError";
    this.kind = kind;
    if (options.status !== undefined) this.status = options.status;
  }
}

/** Why a store did not do as it was asked. */
export class KeyValueError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = "KeyValueError";
  }
}

/** Why a file was not read or written. */
export class FileError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = "FileError";
    this.code = code;
  }
}
