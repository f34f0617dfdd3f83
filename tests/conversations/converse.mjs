// Converse.js in Chromium for tests: commands come as lines of JSON on standard input, and what happens goes to standard
// output. node converse.mjs FOLDER CHROMIUM URL; playwright-core is installed in FOLDER, the page is at URL.

import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [folder, executablePath, url] = process.argv.slice(2);
const installed = createRequire(path.join(folder, "package.json")).resolve("playwright-core");
const { default: playwright } = await import(pathToFileURL(installed).href);
const PATIENCE = 30_000;

function tell(event, more = {}) {
  process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
}

// Without the switches it looks for servers of its maker, and as root it has no sandbox.
const switches = ["background-networking", "component-update", "sync", "gpu", "quic"].map((name) => `--disable-${name}`);
const args = ["--no-sandbox", "--no-first-run", ...switches];
const browser = await playwright.chromium.launch({ executablePath, args });
const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
page.setDefaultTimeout(PATIENCE);
page.on("pageerror", (error) => process.stderr.write(`${error}\n`));
page.on("console", (message) => process.stderr.write(`${message.text()}\n`));
await page.exposeFunction("tell", tell);

const commands = {
  open: async ({ jid }) => {
    await page.evaluate((contact) => globalThis.api.chats.open(contact, {}, true), jid);
    await page.locator(".chat-textarea").waitFor();
    tell("opened");
  },
  say: async ({ text }) => {
    await page.locator(".chat-textarea").fill(text);
    await page.locator(".chat-textarea").press("Enter");
    tell("said");
  },
  look: async ({ text }) => {
    await page.locator(".chat-msg__text", { hasText: text }).waitFor();
    tell("seen");
  },
  leave: async () => {
    await page.evaluate(() => globalThis.api.user.logout());
    tell("left");
  },
};

createInterface({ input: process.stdin }).on("line", async (line) => {
  const command = JSON.parse(line);
  try {
    await commands[command.do](command);
  } catch (error) {
    tell("failed", { text: String(error) });
  }
}).on("close", async () => {
  await browser.close();
  process.exit();
});
await page.goto(url);
