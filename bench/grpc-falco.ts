/** `grpc-falco.ts SOCKET COUNT`: a Falco of its own process, with so many recorded alerts in its queue, each at a time of its own. */
import { grpcBytes } from '../test/alert/recordings.ts';
import { decodeResponse, encodeAlert, startFalco } from '../test/sources/grpc/falco.ts';

const [socket = '', count = '0'] = process.argv.slice(2);
interface Response {
  readonly time: { readonly seconds: unknown };
  readonly output: string;
}

const responses = grpcBytes().map((bytes) => decodeResponse(bytes) as Response);
const queue = Array.from({ length: Number(count) }, (_, nanos) => {
  const response = responses[nanos % responses.length] as Response;
  const decimals = `${String(nanos).padStart(9, '0')}Z"`;
  const output = response.output.replace(/("time":"[^."]*\.)\d+Z"/, (_text, before: string) => before + decimals);
  return encodeAlert({ ...response, output, time: { ...response.time, nanos } });
});
await startFalco({ listen: `unix://${socket}`, queue });
process.stdout.write('listening\n');
