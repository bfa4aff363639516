/** Posts the lines of stdin as alerts, some at once, and prints how many were taken. */
import { Agent, request } from 'node:http';
import { text } from 'node:stream/consumers';

const atOnce = 8;

const [, , address = '127.0.0.1', port = '2804'] = process.argv;
const alerts = (await text(process.stdin)).split('\n').filter((line) => line !== '');
const agent = new Agent({ keepAlive: true, maxSockets: atOnce });

/** Null: nobody answered. */
function post(alert: string): Promise<number | null> {
  return new Promise((resolve) => {
    const sent = request({ agent, host: address, port, method: 'POST', path: '/' }, (answer) => {
      answer.resume();
      answer.once('end', () => resolve(answer.statusCode ?? null));
      answer.once('error', () => resolve(null));
    });
    sent.once('error', () => resolve(null));
    sent.end(alert);
  });
}

let taken = 0;
await Promise.all(
  Array.from({ length: atOnce }, async () => {
    for (let alert = alerts.pop(); alert !== undefined; alert = alerts.pop()) if ((await post(alert)) === 202) taken++;
  }),
);
agent.destroy();
process.stdout.write(`${taken}\n`);
