/** `send.ts PORT TOPIC`: makes the topic where it is not there, and sends each line of stdin as a message; ends when all are there. */
import { createInterface } from 'node:readline';
import { Admin, Producer } from '@platformatic/kafka';

const [port = '', topic = ''] = process.argv.slice(2);
const client = { clientId: 'tests', bootstrapBrokers: [`127.0.0.1:${port}`], retries: 300, retryDelay: 100 };
const [admin, producer] = [new Admin(client), new Producer(client)];
if (!(await admin.listTopics()).includes(topic)) {
  await admin.createTopics({ topics: [topic], partitions: 2, replicas: 1 });
}
let partition = 0;
for await (const line of createInterface(process.stdin)) {
  await producer.send({ messages: [{ topic, partition: partition++ % 2, value: Buffer.from(line) }], acks: -1 });
}
await Promise.all([admin.close(), producer.close()]);
