import type { TopicPace } from '../../../src/sources/kafka/topic.ts';

/** Brokers of the tests take shorter times than others. */
export const fastPace: Partial<TopicPace> = {
  sessionMs: 1_500,
  rebalanceMs: 3_000,
  heartbeatMs: 100,
  fetchMs: 200,
  metadataMs: 300,
  patienceMs: 1_000,
  firstDelayMs: 50,
  longestDelayMs: 200,
  refusedDelayMs: 60_000,
  keepMs: 20,
};
