import { execFileSync } from 'node:child_process';
import { unlinkSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type BpfProgram, native } from '../../src/kernel/native.ts';
import { ending, json, type Lab, openLab, refusal, startScript, u32 } from './lab.ts';

let lab: Lab;
let veth: ReturnType<Lab['veth']>;
let program: BpfProgram;
let other: BpfProgram;
beforeAll(() => {
  lab = openLab();
  program = lab.loaded().program('on_packet');
  other = lab.loaded().program('mark');
});
beforeEach(() => {
  veth = lab.veth();
});
afterEach(() => veth.remove());
afterAll(() => lab.close());

/** What the interface says of its hook. */
function hook(ifindex: number) {
  return native()
    .netlink.links()
    .find((link) => link.ifindex === ifindex)?.xdp;
}

test.each(['native', 'generic'] as const)('%s: attach, who holds it, update in place, detach', (mode) => {
  expect(native().linkHolding(veth.ifindex)).toBeNull();
  const link = native().attachXdp(program, veth.ifindex, mode);
  expect(link.info).toMatchObject({ programId: program.info.id, ifindex: veth.ifindex });
  expect(hook(veth.ifindex)).toEqual({ mode, programId: program.info.id });
  expect(native().linkHolding(veth.ifindex)).toEqual(link.info);

  link.update(other);
  expect(link.info.programId).toBe(other.info.id);
  expect(hook(veth.ifindex)).toEqual({ mode, programId: other.info.id });

  link.detach();
  expect(link.info.ifindex).toBe(0);
  expect(hook(veth.ifindex)).toEqual({ mode: 'none', programId: 0 });
  expect(native().linkHolding(veth.ifindex)).toBeNull();
  link.close();
});

test('closing the last handle of a link that is not pinned takes the program off', () => {
  const link = native().attachXdp(program, veth.ifindex, 'generic');
  link.close();
  expect(hook(veth.ifindex)?.mode).toBe('none');
  expect(() => link.info).toThrow('BpfLink is closed');
});

test('the same mode is EBUSY, the other one EEXIST', () => {
  const link = native().attachXdp(program, veth.ifindex, 'native');
  expect(refusal(() => native().attachXdp(other, veth.ifindex, 'native'))).toMatchObject({
    operation: 'attachXdp',
    code: 'EBUSY',
  });
  expect(refusal(() => native().attachXdp(other, veth.ifindex, 'generic')).code).toBe('EEXIST');
  expect(link.info.programId).toBe(program.info.id);
  link.close();
});

test('a program attached without a link is no link', () => {
  execFileSync('ip', ['link', 'set', veth.a, 'xdpgeneric', 'obj', lab.objectPath, 'sec', 'xdp']);
  const attached = hook(veth.ifindex);
  expect(attached?.mode).toBe('generic');
  expect(native().programInfoById(attached?.programId ?? 0).type).toBe(6);
  expect(native().linkHolding(veth.ifindex)).toBeNull();
  expect(refusal(() => native().attachXdp(program, veth.ifindex, 'generic')).code).toBe('EBUSY');
});

test('a pinned link survives the process that made it, and opens again', async () => {
  const path = `${lab.bpffs()}/link`;
  const child = startScript('attach.ts', [lab.objectPath, String(veth.ifindex), path]);
  expect(await ending(child)).toMatchObject({ code: 0, signal: null, stderr: '' });
  expect(hook(veth.ifindex)?.mode).toBe('generic');
  const link = native().openLink(path);
  expect(link.info).toMatchObject({ ifindex: veth.ifindex });
  link.update(other);
  unlinkSync(path);
  expect(hook(veth.ifindex)?.programId).toBe(other.info.id);
  link.close();
  expect(hook(veth.ifindex)?.mode).toBe('none');
});

test('after its device is gone a link has no interface, and an update says ENOLINK', () => {
  const link = native().attachXdp(program, veth.ifindex, 'native');
  veth.remove();
  expect(link.info.ifindex).toBe(0);
  expect(refusal(() => link.update(other))).toMatchObject({ operation: 'update', code: 'ENOLINK' });
  expect(refusal(() => native().linkHolding(veth.ifindex)).code).toBe('ENODEV');
  link.close();
});

test("the kernel's own sentence for a refusal, and none when there is nothing to refuse", () => {
  execFileSync('ip', ['link', 'set', veth.a, 'mtu', '9000']);
  execFileSync('ip', ['link', 'set', veth.b, 'mtu', '9000']);
  expect(refusal(() => native().attachXdp(program, veth.ifindex, 'native')).code).toBe('ERANGE');
  expect(native().explainXdpRefusal(program, veth.ifindex, 'native')).toMatch(/MTU is too large|MTU/);
  expect(hook(veth.ifindex)?.mode).toBe('none');

  // generic takes it, and it is taken off again
  expect(native().explainXdpRefusal(program, veth.ifindex, 'generic')).toBeNull();
  expect(hook(veth.ifindex)).toEqual({ mode: 'none', programId: 0 });

  // a link in the way
  const link = native().attachXdp(program, veth.ifindex, 'generic');
  expect(native().explainXdpRefusal(other, veth.ifindex, 'generic')).toMatch(/already|active|link/i);
  expect(native().explainXdpRefusal(other, veth.ifindex, 'native')).toMatch(/same time|already|active|mode/i);
  expect(hook(veth.ifindex)?.programId).toBe(program.info.id);
  link.close();
});

test('fragments let a native program onto a large MTU', () => {
  execFileSync('ip', ['link', 'set', veth.a, 'mtu', '9000']);
  execFileSync('ip', ['link', 'set', veth.b, 'mtu', '9000']);
  const object = native().openObject(lab.objectBytes, 'objects');
  object.addProgramFlags('on_packet', 1 << 5); // BPF_F_XDP_HAS_FRAGS
  object.load();
  const link = native().attachXdp(object.program('on_packet'), veth.ifindex, 'native');
  expect(hook(veth.ifindex)?.mode).toBe('native');
  link.close();
  object.close();
});

test('no interface, a program of another type, a pin of another kind are refused', () => {
  expect(refusal(() => native().attachXdp(program, 2 ** 31 - 1, 'native')).code).toBe('EINVAL');
  const syscall = lab.loaded().program('emit');
  expect(refusal(() => native().attachXdp(syscall, veth.ifindex, 'native')).code).toBe('EINVAL');
  const path = `${lab.bpffs()}/not_a_link`;
  program.pin(path);
  expect(refusal(() => native().openLink(path))).toMatchObject({ operation: 'openLink', code: 'EINVAL' });
});

test('traffic meets the attached program', () => {
  const object = native().openObject(lab.objectBytes, 'objects');
  object.setRodata('verdict', u32(1));
  object.load();
  const link = native().attachXdp(object.program('on_packet'), veth.ifindex, 'native');
  const counts = object.map('percpu');
  const total = () => {
    const values = counts.lookup(u32(0)) ?? Buffer.alloc(0);
    let sum = 0;
    for (let at = 0; at < values.length; at += 8) sum += values.readUInt32LE(at);
    return sum;
  };
  const before = total();
  const [peer] = json<{ address: string }[]>('ip', '-j', 'link', 'show', 'dev', veth.a);
  execFileSync('python3', [
    '-c',
    'import socket,sys\ns=socket.socket(socket.AF_PACKET,socket.SOCK_RAW)\ns.bind((sys.argv[1],0))\n' +
      'frame=bytes.fromhex(sys.argv[2].replace(":",""))+b"\\x02\\0\\0\\0\\0\\1"+b"\\x88\\xb5"+b"\\0"*46\n' +
      'for i in range(10): s.send(frame)\n',
    veth.b,
    peer?.address ?? '',
  ]);
  expect(total() - before).toBeGreaterThanOrEqual(10);
  link.close();
  object.close();
});
