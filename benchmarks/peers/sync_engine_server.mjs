// A server of Node.js around the sync engine: each webhook's signature is checked and its row is written before the answer.
// Arguments: the folder of its packages, the URL of the database, the secret of the endpoint, and a port; without a port it
// only makes the tables.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'

const [folder, databaseUrl, stripeWebhookSecret, port] = process.argv.slice(2)
const { StripeSync, runMigrations } = createRequire(`${folder}/`)('@supabase/stripe-sync-engine')

if (port === undefined) {
  await runMigrations({ databaseUrl, schema: 'stripe' })
} else {
  const sync = new StripeSync({
    poolConfig: { connectionString: databaseUrl, max: 10 },
    stripeSecretKey: 'sk_test_benchmark',
    stripeWebhookSecret,
  })

  createServer((request, response) => {
    const parts = []
    request.on('data', (part) => parts.push(part))
    request.on('end', async () => {
      try {
        await sync.processWebhook(Buffer.concat(parts), request.headers['stripe-signature'])
        answer(response, 200, '{"received": true}')
      } catch (error) {
        answer(response, 400, `Webhook Error: ${error.message}`)
      }
    })
  }).listen(Number(port), '127.0.0.1')
}

function answer(response, status, text) {
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  response.end(text)
}
