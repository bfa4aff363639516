import { expect, test } from 'vitest';
import { failureOf } from '../../../src/sources/kafka/failure.ts';

/** As the library throws them: an error within an error, and several at once. */
const caused = (message: string, code: string): Error =>
  new Error('Connection to kafka-1:9092 failed.', { cause: Object.assign(new Error(message), { code }) });

test.each<[unknown, string, boolean]>([
  [caused('connect ECONNREFUSED', 'ECONNREFUSED'), 'nobody listens there (kafka-1:9092)', false],
  [
    new AggregateError([caused('getaddrinfo ENOTFOUND kafka-1', 'ENOTFOUND')], 'Cannot connect to any broker.'),
    'a name of a broker has no address (kafka-1:9092)',
    false,
  ],
  [
    new AggregateError([Object.assign(new Error('x'), { apiId: 'GROUP_AUTHORIZATION_FAILED' })], 'Received response'),
    'the broker does not let us into the group',
    true,
  ],
  [
    Object.assign(new Error('x'), { apiId: 'TOPIC_AUTHORIZATION_FAILED' }),
    'the broker does not let us read the topic',
    true,
  ],
  [new Error('Unknown topic falco.'), 'the topic is not there', false],
  [new Error('Unsupported API Fetch.'), 'the broker is too old: Kafka 2.7 is needed', false],
  [new Error('never seen'), 'never seen', false],
  ['a text', 'a text', false],
  [null, 'null', false],
])('%s', (error, problem, isRefusal) => {
  expect(failureOf(error)).toMatchObject({ problem, isRefusal });
});

test('an error that is its own cause ends', () => {
  const error = new Error('round');
  error.cause = error;
  expect(failureOf(error).problem).toBe('round');
});
