import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress } from '../../../src/address/address.ts';
import { type Endpoint, readHost, readSocketName, type SocketName } from '../../../src/judge/offender/tuple.ts';

const endpoint = ({ address, port }: Endpoint): string => `${formatAddress(address)} ${port ?? 'none'}`;

function read(name: string, ported: boolean | null): readonly string[] | Exclude<SocketName['kind'], 'tuple'> {
  const socket = readSocketName(name, ported);
  if (socket.kind !== 'tuple') return socket.kind;
  return socket.readings.map(({ client, server }) => `${endpoint(client)} > ${endpoint(server)}`);
}

describe('readSocketName', () => {
  test.each<[string, boolean | null, string | readonly string[]]>([
    ['10.0.0.1:5000->1.2.3.4:80', true, ['10.0.0.1 5000 > 1.2.3.4 80']],
    ['10.0.0.1:5000->1.2.3.4:80', null, ['10.0.0.1 5000 > 1.2.3.4 80']],
    // the colon is there, whatever the protocol
    ['10.0.0.1:5000->1.2.3.4:80', false, ['10.0.0.1 5000 > 1.2.3.4 80']],
    ['1.2.3.4->5.6.7.8', false, ['1.2.3.4 none > 5.6.7.8 none']],
    ['1.2.3.4->5.6.7.8', null, ['1.2.3.4 none > 5.6.7.8 none']],
    ['1.2.3.4->5.6.7.8', true, ['1.2.3.4 none > 5.6.7.8 none']],
    ['2600:1f18::d29e:40251->2001:4860:4860::8888:53', true, ['2600:1f18::d29e 40251 > 2001:4860:4860::8888 53']],
    // 40251 is no group of an address, and both halves have one form
    ['2600:1f18::d29e:40251->2001:4860:4860::8888:53', null, ['2600:1f18::d29e 40251 > 2001:4860:4860::8888 53']],
    ['2001:db8::3:1234->2001:db8::4:80', true, ['2001:db8::3 1234 > 2001:db8::4 80']],
    ['2001:db8::3:1234->2001:db8::4:80', false, ['2001:db8::3:1234 none > 2001:db8::4:80 none']],
    [
      '2001:db8::3:1234->2001:db8::4:80',
      null,
      ['2001:db8::3 1234 > 2001:db8::4 80', '2001:db8::3:1234 none > 2001:db8::4:80 none'],
    ],
    ['2001:db8::1->2001:db8::2', false, ['2001:db8::1 none > 2001:db8::2 none']],
    ['1:2:3:4:5:6:7:8:9->1:2:3:4:5:6:7:8:80', null, ['1:2:3:4:5:6:7:8 9 > 1:2:3:4:5:6:7:8 80']],
    ['1:2:3:4:5:6:7:8->1:2:3:4:5:6:7:9', true, ['1:2:3:4:5:6:7:8 none > 1:2:3:4:5:6:7:9 none']],
    ['::ffff:127.0.0.1:36191->::1:80', true, ['127.0.0.1 36191 > ::1 80']],
    ['::ffff:203.0.113.66:36191->203.0.113.10:80', null, ['203.0.113.66 36191 > 203.0.113.10 80']],
    ['203.0.113.66:36191->::ffff:203.0.113.10:80', null, ['203.0.113.66 36191 > 203.0.113.10 80']],
    ['::ffff:1.2.3.4->::ffff:5.6.7.8', false, ['1.2.3.4 none > 5.6.7.8 none']],
    ['::ffff:c000:201:443->::1:80', true, ['192.0.2.1 443 > ::1 80']],
    ['fe80::1%eth0:5000->fe80::2%eth0:80', true, ['fe80::1 5000 > fe80::2 80']],
    [':::5000->::1:80', true, [':: 5000 > ::1 80']],
    ['0.0.0.0:0->1.2.3.4:0', true, ['0.0.0.0 0 > 1.2.3.4 0']],
    ['0.0.0.0:8080', null, 'bound'],
    [':::8080', true, 'bound'],
    ['2001:db8:2::66:80', true, 'bound'],
    ['ffff8f1c2a00->ffff8e7d1b00 /run/x.sock', null, 'unix'],
    ['ffff8f1c2a00->ffff8e7d1b00', null, 'unix'],
    ['0->ffff8e7d1b00 /run/1.2.3.4:5->5.6.7.8:9', null, 'unix'],
    ['/etc/shadow', null, 'other'],
    ['/tmp/10.0.0.1:5000->1.2.3.4:80', null, 'other'],
    ['<unknown>', null, 'other'],
    ['', null, 'other'],
    ['->', null, 'other'],
    ['10.0.0.1:5000->', null, 'other'],
    ['->1.2.3.4:80', null, 'other'],
    ['10.0.0.1:5000->1.2.3.4', null, 'other'],
    ['10.0.0.1->1.2.3.4:80', null, 'other'],
    ['10.0.0.1:5000->1.2.3.4:80->5.6.7.8:9', null, 'other'],
    ['10.0.0.1:5000->1.2.3.4:80 /x', null, 'other'],
    [' 10.0.0.1:5000->1.2.3.4:80', null, 'other'],
    ['10.0.0.1:5000->1.2.3.4:80\n', null, 'other'],
    ['10.0.0.1:05000->1.2.3.4:80', null, 'other'],
    ['10.0.0.1:65536->1.2.3.4:80', null, 'other'],
    ['10.0.0.1:5000->1.2.3.4:http', null, 'other'],
    ['010.0.0.1:5000->1.2.3.4:80', null, 'other'],
    ['[2001:db8::1]:5000->[2001:db8::2]:80', null, 'other'],
    ['eth0', null, 'other'],
  ])('%j, ports %j', (name, ported, expected) => {
    expect(read(name, ported)).toEqual(expected);
  });

  test('long text is no socket, and takes no time', () => {
    expect(read(`${'1:'.repeat(100_000)}->${'::'.repeat(100_000)}`, null)).toBe('other');
  });

  test('reads back what libs would print', () => {
    const v4 = fc.ipV4();
    const v6 = fc.ipV6().filter((text) => readHost(text)?.family === 6);
    const canonical = (text: string) => {
      const address = readHost(text);
      if (address === null) throw new Error(text);
      return formatAddress(address);
    };
    const port = fc.integer({ min: 0, max: 65_535 });
    fc.assert(
      fc.property(fc.oneof(fc.tuple(v4, v4), fc.tuple(v6, v6)), port, port, ([a, b], clientPort, serverPort) => {
        const [client, server] = [canonical(a), canonical(b)];
        const withPorts = `${client} ${clientPort} > ${server} ${serverPort}`;
        const without = `${client} none > ${server} none`;
        expect(read(`${client}:${clientPort}->${server}:${serverPort}`, true)).toEqual([withPorts]);
        expect(read(`${client}:${clientPort}->${server}:${serverPort}`, null)).toContain(withPorts);
        expect(read(`${client}->${server}`, false)).toEqual([without]);
        expect(read(`${client}->${server}`, null)).toContain(without);
      }),
    );
  });
});
