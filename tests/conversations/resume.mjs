// @xmpp/client for tests: commands come as lines of JSON on standard input, and what happens goes to standard output.
//
// node resume.mjs FOLDER SERVICE USERNAME RESOURCE; @xmpp/client is installed in FOLDER.

import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const SM = "urn:xmpp:sm:3";
const [folder, service, username, resource] = process.argv.slice(2);
const installed = createRequire(path.join(folder, "package.json")).resolve("@xmpp/client");
const { client, xml } = await import(pathToFileURL(installed).href);

function tell(event, more = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
}

const xmpp = client({
  service,
  domain: "localhost",
  username,
  // Without a word on it SCRAM-SHA-1 is taken, whose hashing keeps this client busy for a second.
  credentials: (authenticate) => authenticate({ username, password: "secret" }, "PLAIN"),
  resource,
  // The one that it would make itself needs a newer Node.js than Debian 12 has.
  userAgent: xml("user-agent", { id: randomUUID() }),
});
const sm = xmpp.streamManagement;
xmpp.reconnect.delay = 100;

xmpp.on("error", (error) => tell("error", { text: String(error) }));
xmpp.on("online", (address) => tell("online", { jid: address.toString() }));
xmpp.on("disconnect", () => tell("disconnect"));
xmpp.on("nonza", (element) => {
  if (element.is("enabled", SM)) {
    // It takes notice of <enabled/> a little later, and begins to count anew then.
    setImmediate(() => tell("enabled"));
  } else if (element.is("failed", SM)) {
    tell("failed", { text: element.toString() });
  }
});
xmpp.on("stanza", (stanza) => {
  if (stanza.is("message") && stanza.getChild("body")) {
    tell("message", { body: stanza.getChildText("body") });
  }
});
sm.on("resumed", () => tell("resumed"));
sm.on("fail", (stanza) => tell("fail", { text: stanza.toString() }));
sm.on("ack", tellWhenAcknowledged);

let acknowledgementWanted = false;

function tellWhenAcknowledged() {
  if (acknowledgementWanted && sm.outbound_q.length === 0) {
    acknowledgementWanted = false;
    tell("acknowledged");
  }
}

const commands = {
  async start() {
    await xmpp.start();
  },
  async presence({ priority, status }) {
    await xmpp.send(xml("presence", {}, xml("priority", {}, String(priority)), xml("status", {}, status)));
  },
  async say({ to, body }) {
    await xmpp.send(xml("message", { to, type: "chat", id: randomUUID() }, xml("body", {}, body)));
    tell("said");
  },
  async acknowledged() {
    acknowledgementWanted = true;
    await xmpp.send(xml("r", { xmlns: SM })); // it would ask by itself as well, only later
    tellWhenAcknowledged();
  },
  async stop() {
    await xmpp.stop();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  await commands[command](rest);
}
process.exit();
