/** A Kafka broker, as `bootstrap.servers` has it: HOST:PORT, an IPv6 address in brackets. */
import { FalcodropError } from '../errors.ts';
import { formatHostPort, type HostPort, parseHostPort } from './host-port.ts';

export type BrokerAddress = HostPort;

/** Throws `config_invalid`. */
export function parseBrokerAddress(text: string): BrokerAddress {
  const address = parseHostPort(text);
  if (address === null) {
    throw new FalcodropError(
      'config_invalid',
      'is not HOST:PORT',
      'as in kafka-1.example.org:9092, 192.0.2.10:9092, [2001:db8::10]:9092; several brokers are a list',
    );
  }
  return address;
}

/** The one way of writing it. */
export const formatBrokerAddress = formatHostPort;
