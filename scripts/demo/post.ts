/**
 * The demo's Falco: posts alerts to falcodrop over one kept-alive connection, as Falco's http_output does. One alert a line
 * on stdin; answers each with a line {status, begun, answered}, times in CLOCK_MONOTONIC ns. Usage: post.ts URL
 */
import { Agent, request } from 'node:http';
import { createInterface } from 'node:readline';

const url = process.argv[2];
if (url === undefined) throw new Error('usage: post.ts URL');
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

function post(body: string): Promise<{ status: number; begun: string; answered: string }> {
  return new Promise((resolve, reject) => {
    const headers = {
      'User-Agent': 'falcosecurity/falco',
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(body),
    };
    const sent = request(url as string, { method: 'POST', agent, headers });
    let begun = 0n;
    sent.on('error', reject);
    sent.on('response', (response) => {
      const answered = process.hrtime.bigint();
      response.resume();
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, begun: String(begun), answered: String(answered) }),
      );
    });
    begun = process.hrtime.bigint();
    sent.end(body);
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await post(line))}\n`);
}
agent.destroy();
