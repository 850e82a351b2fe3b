import { JsonWriter } from "./json";
import { Field, Properties } from "./properties";
import { encodeUtf8 } from "./utf8";

/**
 * A message to be published. The manifest grants exchanges and routing keys; publishing elsewhere is a failure of the
 * delivery. What has no method here is set in `properties`.
 */
export class Publication {
  body: Uint8Array = new Uint8Array(0);
  properties: Properties = new Properties();

  /** An empty, transient message. An empty exchange is the default one, whose routing key is a queue's name. */
  constructor(
    public exchange: string,
    public routingKey: string,
  ) {}

  /** Sets the body, and leaves the content type as it is. The bytes are not copied: leave them alone afterwards. */
  bytes(body: Uint8Array): this {
    this.body = body;
    return this;
  }

  /** Sets the body to that text, and the content type to `text/plain`. */
  text(text: string): this {
    this.properties.contentType = "text/plain";
    return this.bytes(Uint8Array.wrap(encodeUtf8(text)));
  }

  /** Sets the body to what was written, and the content type to `application/json`. */
  json(json: JsonWriter): this {
    this.properties.contentType = "application/json";
    return this.bytes(json.bytes());
  }

  /** Sets one header, in place of an earlier one of that name. */
  header(name: string, value: Field): this {
    this.properties.setHeader(name, value);
    return this;
  }

  /** Lets the message survive a restart of the broker, in a durable queue. */
  persistent(): this {
    this.properties.persistent = true;
    return this;
  }
}
