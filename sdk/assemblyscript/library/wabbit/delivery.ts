import { Json } from "./json";
import { Field, Properties } from "./properties";
import { Publication } from "./publication";
import { decodeUtf8, validPrefix } from "./utf8";

/** A message as the broker delivered it. */
export class Delivery {
  /** The body, whatever it is. `text` and `json` read it. */
  body: Uint8Array = new Uint8Array(0);
  /** The basic properties, headers included. */
  properties: Properties = new Properties();
  /** The exchange that it was published to. Empty is the default exchange. */
  exchange: string = "";
  /** The routing key that it was published with. */
  routingKey: string = "";
  /** The queue that it was consumed from. */
  queue: string = "";
  /** Whether the broker may have delivered it before. */
  redelivered: bool = false;
  /** 1 on the first try, and one more for each recorded failure. */
  attempt: u32 = 1;
  /** Why `text` or `json` gave null: the reason of a dead letter, since the body will be no better the next time. */
  problem: string = "";

  /** The body as UTF-8 text. Null where it is none; then `problem` says so. */
  text(): string | null {
    const text = decodeUtf8(this.body.dataStart, this.body.length);
    if (text === null) {
      const valid = validPrefix(this.body.dataStart, this.body.length);
      this.problem = `the body is not UTF-8 text: see byte ${valid}`;
    }
    return text;
  }

  /** The body as JSON. Null where it is none; then `problem` says why. (JSON's own null is a value of that kind.) */
  json(): Json | null {
    const text = this.text();
    if (text === null) return null;
    const json = Json.parse(text);
    if (json === null) this.problem = `the body is not JSON: see character ${Json.failedAt}`;
    return json;
  }

  /** The header of that name. Names are case-sensitive. */
  header(name: string): Field | null {
    return this.properties.header(name);
  }

  /**
   * An empty publication to the delivery's reply-to queue through the default exchange, with its correlation id. Null
   * where it has no reply-to, and so nobody waits for one. The manifest grants replies as "reply".
   */
  reply(): Publication | null {
    const replyTo = this.properties.replyTo;
    if (replyTo === null) return null;
    const reply = new Publication("", replyTo);
    reply.properties.correlationId = this.properties.correlationId;
    return reply;
  }
}
