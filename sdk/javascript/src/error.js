/** Errors that the SDK knows. */

/** An error that another try would not mend: the delivery goes to the dead-letter queue, with this reason. */
export class DeadLetterError extends Error {
  constructor(reason, options) {
    super(reason, options);
    this.name = "DeadLetterError";
  }
}
