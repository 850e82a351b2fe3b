/** What went wrong, for a handler to act upon. */
export enum ProblemKind {
  None,
  /** The manifest does not grant it. */
  NotGranted,
  /** There is no such file. */
  Missing,
  /** The request has no form that could be sent: its URL, its method or a header. */
  Request,
  /** The server cannot be found or reached. */
  Connection,
  /** Somebody took too long. */
  Timeout,
  /** The body of the request or of the response is larger than the host allows. */
  TooLarge,
  Other,
}

/** What the host has given, or why it has not. */
export class Result<T> {
  constructor(
    private given: T,
    /** What went wrong; null where nothing did. */
    readonly problem: string | null = null,
    readonly kind: ProblemKind = ProblemKind.None,
  ) {}

  /** What was given. Where there was a problem, the handler ends here, with the problem in the log. */
  get value(): T {
    const problem = this.problem;
    if (problem !== null) throw new Error(problem);
    return this.given;
  }
}

/** That nothing was given, and why. */
export function failed<T>(problem: string, kind: ProblemKind = ProblemKind.Other): Result<T> {
  return new Result<T>(isReference<T>() ? changetype<T>(<usize>0) : <T>0, problem, kind);
}
