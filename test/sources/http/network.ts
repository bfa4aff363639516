/**
 * `network.ts ADDRESS`: a source on that address with a secret path; then an alert to it from there, and one over loopback when it
 * listens everywhere, both by curl with Falco's URL. Prints a line of JSON: statuses and origins.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { serveHttp } from '../../../src/sources/http.ts';
import { type Arrival, Intake } from '../../../src/sources/intake.ts';

const [address = '', ...targets] = process.argv.slice(2);
const arrived: Arrival[] = [];
const intake = new Intake((arrival) => arrived.push(arrival));
const path = 'pathpathpathpathpath';
const source = await serveHttp({ address, port: 0, intake, credentials: { token: null, basic: null, path } });
const statuses: string[] = [];
for (const target of targets) {
  for (const suffix of [path, '']) {
    const args = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '--max-time', '10', '--data-binary', '{"rule":"r"}'];
    const { stdout } = await promisify(execFile)('curl', [...args, `http://${target}:${source.port}/${suffix}`]);
    statuses.push(stdout);
  }
}
await intake.idle();
await source.close(0);
process.stdout.write(JSON.stringify({ statuses, origins: arrived.map(({ alert: { origin } }) => origin) }));
