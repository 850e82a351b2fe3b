import { Publication } from "./publication";

/** The settlements, in the order of the contract. */
export enum SettlementKind {
  Ack,
  Requeue,
  Retry,
  DeadLetter,
}

/** What becomes of a delivery once every publication is confirmed. All but an ack are nacks. */
export class Settlement {
  constructor(
    public kind: SettlementKind,
    /** After how many milliseconds a retry comes; -1 leaves it to the manifest's backoff. */
    public delayMs: i64 = -1,
    /** That of a dead letter. */
    public reason: string = "",
  ) {}
}

/** The answer to a delivery: what is to be published, and then what becomes of the delivery. */
export class Outcome {
  publications: Publication[] = [];
  /** Not null for a failure, which publishes nothing. */
  failure: string | null = null;

  constructor(public settlement: Settlement) {}

  /** Done: the broker forgets the delivery. */
  static ack(): Outcome {
    return new Outcome(new Settlement(SettlementKind.Ack));
  }

  /** Back on its queue at once; after a pause where it came back before. */
  static requeue(): Outcome {
    return new Outcome(new Settlement(SettlementKind.Requeue));
  }

  /** Again after the manifest's backoff. */
  static retry(): Outcome {
    return new Outcome(new Settlement(SettlementKind.Retry));
  }

  /** Again after so many milliseconds. The host takes 100 ms to 7 days. */
  static retryAfter(ms: u32): Outcome {
    return new Outcome(new Settlement(SettlementKind.Retry, ms));
  }

  /** Never again: to the dead-letter queue, with this reason. */
  static deadLetter(reason: string): Outcome {
    return new Outcome(new Settlement(SettlementKind.DeadLetter, -1, reason));
  }

  /** The delivery has failed, and the manifest's failure policy decides. */
  static fail(text: string): Outcome {
    const outcome = Outcome.ack();
    outcome.failure = text;
    return outcome;
  }

  /**
   * Adds a message to be published, or none where it is null. It is published whatever the settlement: with a requeue
   * or a retry, again at each attempt.
   */
  publish(publication: Publication | null): this {
    if (publication !== null) this.publications.push(publication);
    return this;
  }
}
