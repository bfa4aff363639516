/** A Kafka broker, as `bootstrap.servers` has it: HOST:PORT, an IPv6 address in brackets. */
import { FalcodropError } from '../errors.ts';

export interface BrokerAddress {
  readonly host: string;
  readonly port: number;
}

/** Throws `config_invalid`. */
export function parseBrokerAddress(text: string): BrokerAddress {
  const [, bracketed, plain, digits = ''] = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9_.-]{1,253})):(\d{1,5})$/i.exec(text) ?? [];
  const host = bracketed ?? plain;
  const port = Number(digits);
  if (host === undefined || port < 1 || port > 65_535) {
    throw new FalcodropError(
      'config_invalid',
      'is not HOST:PORT',
      'as in kafka-1.example.org:9092, 192.0.2.10:9092, [2001:db8::10]:9092; several brokers are a list',
    );
  }
  return { host, port };
}

/** The one way of writing it. */
export function formatBrokerAddress({ host, port }: BrokerAddress): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
