/** An HTTP source on a free port of loopback, its queue, and what arrived. */
import { type HttpOptions, type HttpSource, serveHttp } from '../../../src/sources/http.ts';
import { type Arrival, Intake, intakeLimits } from '../../../src/sources/intake.ts';
import type { Say } from '../../../src/sources/lines/feed.ts';
import { openWire, type Wire } from '../wire.ts';

export interface Served {
  readonly source: HttpSource;
  readonly intake: Intake;
  readonly arrived: Arrival[];
  readonly said: { readonly message: string; readonly details: Readonly<Record<string, unknown>> }[];
  wire(): Promise<Wire>;
  close(): Promise<void>;
}

/** An alert of that rule, with an address. */
export const alertOf = (rule: string): string =>
  `{"rule":"${rule}","output_fields":{"fd.name":"1.2.3.4:1->5.6.7.8:2"}}`;

type Options = Partial<Omit<HttpOptions, 'intake'>> & {
  readonly address?: string;
  readonly queue?: typeof intakeLimits;
};

export async function serve({ queue = intakeLimits, ...options }: Options = {}): Promise<Served> {
  const arrived: Arrival[] = [];
  const said: Served['said'] = [];
  const say: Say = (_level, message, details) => said.push({ message, details });
  const intake = new Intake((arrival) => arrived.push(arrival), queue, { remembers: false });
  const source = await serveHttp({ address: '127.0.0.1', port: 0, say, ...options, intake } as HttpOptions);
  const wires: Wire[] = [];
  return {
    source,
    intake,
    arrived,
    said,
    wire: async () => {
      const wire = await openWire(source.port);
      wires.push(wire);
      return wire;
    },
    close: async () => {
      for (const wire of wires) wire.close();
      await source.close(0);
    },
  };
}
