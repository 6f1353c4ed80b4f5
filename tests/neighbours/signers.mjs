// Signs a body with the libraries of four vendors, and lets each verify the headers that Hookmirror made for the body and for
// a changed one. Reads {body, changed, secrets, ours} as JSON, and prints {signed, accepts, refuses} by the vendor's name.
import { readFileSync } from "node:fs";
import { sign, verify } from "@octokit/webhooks-methods";
import { encodeSignatureHeader, isValidSignature, SIGNATURE_HEADER_NAME } from "@sanity/webhook";
import { Webhook } from "standardwebhooks";
import Stripe from "stripe";

const { body, changed, secrets, ours } = JSON.parse(readFileSync(0, "utf8"));

const vendors = {
  github: {
    sign: async (text, secret) => ({ "X-Hub-Signature-256": await sign(secret, text) }),
    verify: (text, secret, headers) => verify(secret, text, headers["x-hub-signature-256"]),
  },
  sanity: {
    sign: async (text, secret) => ({ [SIGNATURE_HEADER_NAME]: await encodeSignatureHeader(text, Date.now(), secret) }),
    verify: (text, secret, headers) => isValidSignature(text, headers[SIGNATURE_HEADER_NAME], secret),
  },
  standard: {
    sign: (text, secret) => {
      const now = new Date();
      return {
        "webhook-id": "msg_1",
        "webhook-timestamp": String(Math.floor(now / 1000)),
        "webhook-signature": new Webhook(secret).sign("msg_1", now, text),
      };
    },
    verify: (text, secret, headers) => Boolean(new Webhook(secret).verify(text, headers)),
  },
  stripe: {
    sign: (text, secret) => ({ "Stripe-Signature": Stripe.webhooks.generateTestHeaderString({ payload: text, secret }) }),
    verify: (text, secret, headers) => Boolean(Stripe.webhooks.constructEvent(text, headers["stripe-signature"], secret)),
  },
};

async function accepted(vendor, text, secret, headers) {
  try {
    return await vendor.verify(text, secret, headers);
  } catch (refusal) {
    if (/signature/i.test(refusal.message)) return false;
    throw refusal;
  }
}

const told = { signed: {}, accepts: {}, refuses: {} };
for (const [name, vendor] of Object.entries(vendors)) {
  told.signed[name] = await vendor.sign(body, secrets[name]);
  told.accepts[name] = await accepted(vendor, body, secrets[name], ours[name]);
  told.refuses[name] = !(await accepted(vendor, changed, secrets[name], ours[name]));
}
console.log(JSON.stringify(told));
