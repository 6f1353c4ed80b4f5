// Posts a file with fetch, at once and after a pause, and then in the same way with an agent that keeps its connection.
// Prints each answer, and whether its connection had been used before.
import { readFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import { setTimeout } from "node:timers/promises";

const [url, name, value, file, pause] = process.argv.slice(2);
const body = await readFile(file);
const headers = { "content-type": "application/json", "content-length": body.length, [name]: value };
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

async function fetched() {
  const answer = await fetch(url, { method: "POST", headers, body });
  return { ...(await answer.json()), by: "fetch" };
}

function posted() {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: "POST", headers, agent }, async (answer) => {
      let text = "";
      for await (const piece of answer) text += piece;
      resolve({ ...JSON.parse(text), by: "agent", again: sent.reusedSocket });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

console.log(JSON.stringify(await fetched()));
console.log(JSON.stringify(await posted()));
await setTimeout(Number(pause) * 1000);
console.log(JSON.stringify(await fetched()));
console.log(JSON.stringify(await posted()));
agent.destroy();
