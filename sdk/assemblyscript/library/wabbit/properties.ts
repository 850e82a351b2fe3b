/** The cases of a field, in the order of the contract. */
export enum FieldKind {
  Boolean,
  Integer,
  Float,
  Text,
  Binary,
  Timestamp,
  Json,
  Void,
}

const NO_BYTES = new Uint8Array(0);

/** One value of an AMQP field table. What is not of its kind is zero or empty. */
export class Field {
  private constructor(
    public kind: FieldKind,
    public boolean: bool = false,
    public integer: i64 = 0,
    public float: f64 = 0,
    /** A text, or the JSON text of a decimal, nested table or array. */
    public text: string = "",
    public binary: Uint8Array = NO_BYTES,
    /** Seconds since the Unix epoch. */
    public timestamp: u64 = 0,
  ) {}

  static boolean(value: bool): Field {
    return new Field(FieldKind.Boolean, value);
  }

  static integer(value: i64): Field {
    return new Field(FieldKind.Integer, false, value);
  }

  static float(value: f64): Field {
    return new Field(FieldKind.Float, false, 0, value);
  }

  static text(value: string): Field {
    return new Field(FieldKind.Text, false, 0, 0, value);
  }

  static binary(value: Uint8Array): Field {
    return new Field(FieldKind.Binary, false, 0, 0, "", value);
  }

  static timestamp(seconds: u64): Field {
    return new Field(FieldKind.Timestamp, false, 0, 0, "", NO_BYTES, seconds);
  }

  /** A decimal, nested table or array, as JSON text. */
  static json(text: string): Field {
    return new Field(FieldKind.Json, false, 0, 0, text);
  }

  static void(): Field {
    return new Field(FieldKind.Void);
  }
}

/** A header: a name, which is case-sensitive, and a value. Names that start with `x-wabbit-` are the host's. */
export class Header {
  constructor(
    public name: string,
    public value: Field,
  ) {}
}

/**
 * The basic properties of AMQP 0-9-1. What is null, or -1, is not set; an empty text is. Texts hold at most 255 bytes.
 */
export class Properties {
  contentType: string | null = null;
  contentEncoding: string | null = null;
  /** In the order of the message. */
  headers: Header[] = [];
  /** Whether the message survives a restart of the broker in a durable queue. */
  persistent: bool = false;
  /** 0 to 255. Higher is delivered first, in queues declared with priorities. */
  priority: i32 = -1;
  /** Says which request a reply belongs to. */
  correlationId: string | null = null;
  /** The queue that a reply is to be sent to, through the default exchange. */
  replyTo: string | null = null;
  /** Milliseconds after which the message expires in its queue, at most 4,294,967,295. */
  expirationMs: i64 = -1;
  messageId: string | null = null;
  /** Seconds since the Unix epoch, where `hasTimestamp` says that there is one. */
  timestamp: u64 = 0;
  hasTimestamp: bool = false;
  /** AMQP's `type`. */
  kind: string | null = null;
  /** The user who published the message, checked by the broker. */
  userId: string | null = null;
  appId: string | null = null;

  /** The value of the first header of that name. */
  header(name: string): Field | null {
    for (let i = 0; i < this.headers.length; i++) {
      if (this.headers[i].name == name) return this.headers[i].value;
    }
    return null;
  }

  /** Sets a header, in place of an earlier one of that name. */
  setHeader(name: string, value: Field): void {
    for (let i = 0; i < this.headers.length; i++) {
      if (this.headers[i].name == name) {
        this.headers[i].value = value;
        return;
      }
    }
    this.headers.push(new Header(name, value));
  }
}
