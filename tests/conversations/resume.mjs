// @xmpp/client for tests: commands come as lines of JSON on standard input, and what happens goes to standard output.
//
// node resume.mjs FOLDER SERVICE USERNAME RESOURCE [ID]; @xmpp/client is installed in FOLDER. With the ID of a user
// agent it logs in by SASL2, and later with the token that it gets; without, it does as clients did before there was that.

import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const SM = "urn:xmpp:sm:3";
const CARBONS = "urn:xmpp:carbons:2";
const FORWARD = "urn:xmpp:forward:0";
const MAM = "urn:xmpp:mam:2";
const RSM = "http://jabber.org/protocol/rsm";
const SID = "urn:xmpp:sid:0";
const SASL2 = "urn:xmpp:sasl:2";
const [folder, service, username, resource, id] = process.argv.slice(2);
const installed = (name) => pathToFileURL(createRequire(path.join(folder, "package.json")).resolve(name)).href;
const { client, xml } = await import(installed("@xmpp/client"));
globalThis.WebSocket ??= (await import(installed("ws"))).default; // which Node.js has since version 22

function tell(event, more = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
}

// The one that it would make itself needs a newer Node.js than Debian 12 has.
const software = [xml("software", { version: "0.14" }, "xmpp.js"), xml("device", {}, resource)];
const userAgent = xml("user-agent", { id: id ?? randomUUID() }, ...software);
const xmpp = client({
  service,
  domain: "localhost",
  username,
  // Without a word on it SCRAM-SHA-1 is taken, whose hashing keeps this client busy for a second.
  credentials: async (authenticate, _mechanisms, fast) =>
    authenticate({ username, password: "secret", token: await fast?.fetch() }, "PLAIN", userAgent),
  resource,
  userAgent,
});
const sm = xmpp.streamManagement;
xmpp.reconnect.delay = 100;

xmpp.on("error", (error) => tell("error", { text: String(error) }));
if (id === undefined) {
  xmpp.prependListener("element", (element) => {
    if (element.is("features")) {
      element.children = element.children.filter((feature) => !feature.is("authentication", SASL2));
    }
  });
}
xmpp.on("online", (address) => {
  tell("online", { jid: address.toString() });
  setImmediate(() => sm.enabled && tell("enabled")); // together with its resource
});
xmpp.on("send", (element) => {
  if (element.is("authenticate", SASL2)) {
    const asked = element.getChildElements().map((child) => child.name);
    tell("authenticate", { mechanism: element.attrs.mechanism, asked });
  }
});
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
  if (!stanza.is("message")) {
    return;
  }
  const result = stanza.getChild("result", MAM);
  if (result !== undefined) {
    results.push({ queryid: result.attrs.queryid, ...described(forwarded(result), result.attrs.id) });
    return;
  }
  for (const way of ["sent", "received"]) {
    const carbon = stanza.getChild(way, CARBONS);
    if (carbon !== undefined && stanza.attrs.from === own()) {
      const message = forwarded(carbon);
      tell("message", { way, ...described(message, stanzaId(message)) });
      return;
    }
  }
  if (stanza.getChild("body")) {
    tell("message", { way: "direct", ...described(stanza, stanzaId(stanza)) });
  }
});
sm.on("resumed", () => tell("resumed"));
sm.on("fail", (stanza) => tell("fail", { text: stanza.toString() }));
sm.on("ack", tellWhenAcknowledged);

let acknowledgementWanted = false;
let results = []; // of the archive, since it was asked

const own = () => xmpp.jid.bare().toString();
const forwarded = (wrapping) => wrapping.getChild("forwarded", FORWARD).getChild("message", "jabber:client");

function stanzaId(message) {
  const ids = message.getChildren("stanza-id", SID).filter((element) => element.attrs.by === own());
  return ids.length === 1 ? ids[0].attrs.id : "";
}

function described(message, id) {
  const { from, to, id: messageId } = message.attrs;
  return { id, sender: from, to, message_id: messageId, body: message.getChildText("body") };
}

function tellWhenAcknowledged() {
  if (acknowledgementWanted && sm.outbound_q.length === 0) {
    acknowledgementWanted = false;
    tell("acknowledged");
  }
}

// Version 0.14 does not count the answers that its iqCaller takes, and would be sent again what it has.
async function ask(payload) {
  const answer = await xmpp.iqCaller.request(xml("iq", { type: "set" }, payload));
  sm.inbound += 1;
  return answer;
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
  async copies() {
    await ask(xml("enable", { xmlns: CARBONS }));
    tell("copied");
  },
  async page({ size, edge, backwards }) {
    const queryid = randomUUID();
    results = [];
    const place = backwards ? xml("before", {}, edge) : edge && xml("after", {}, edge);
    const page = xml("set", { xmlns: RSM }, xml("max", {}, String(size)), place);
    const answer = await ask(xml("query", { xmlns: MAM, queryid }, page));
    const fin = answer.getChild("fin", MAM);
    const set = fin.getChild("set", RSM);
    const [first, last] = [set.getChildText("first"), set.getChildText("last")];
    const messages = results.filter((result) => result.queryid === queryid);
    tell("page", { messages, first, last, complete: fin.attrs.complete === "true" });
  },
  async stop() {
    await xmpp.stop();
    tell("stopped");
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...rest } = JSON.parse(line);
  await commands[command](rest);
}
process.exit();
