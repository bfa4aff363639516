/**
 * The policies that falcodrop ships. Rules of Falco's own files (rules 5.1.0) and of ours; a rule that stands in none of
 * them is observed.
 *
 * Most rules can name an offender and should not act: they fire on every visitor of a web server, every API of a Python
 * program, every public git host that offers SSH on 443. Enforced is only what is aimed at this host by the one who is
 * dropped, or what no innocent program does.
 */
import type { Policy } from './policy.ts';

const oneHour = 3600;

const accepted = ['accept', 'accept4'];

export const builtinPolicies: readonly Policy[] = [
  {
    // A shell's standard streams on a socket. Inbound it is also what sshd does with every client of a git or SFTP
    // container (it re-executes with dup2 of the new socket), so a connection to us is only watched.
    name: 'container-shell',
    rules: ['Redirect STDOUT/STDIN to Network Connection in Container'],
    never: false,
    cases: [
      { when: { way: 'outbound', public: true }, action: 'enforce' },
      { when: {}, action: 'monitor' },
    ],
    outbound: true,
    seconds: oneHour,
  },
  {
    // The operator's own list of command-and-control servers.
    name: 'command-servers',
    rules: ['Outbound Connection to C2 Servers'],
    never: false,
    cases: [{ when: { way: 'outbound' }, action: 'enforce' }],
    outbound: true,
    seconds: oneHour,
  },
  {
    // Nothing is offered there: who completes a connection looks for something. An accept proves the source.
    name: 'canary-port',
    rules: ['Connection to Canary Port'],
    never: false,
    cases: [{ when: { way: 'inbound', events: accepted }, action: 'enforce' }],
    outbound: false,
    seconds: oneHour,
  },
  {
    // An accept says nothing of the login's result; deploy tools and NATed offices trip it.
    name: 'inbound-ssh',
    rules: ['Inbound SSH Connection'],
    never: false,
    cases: [{ when: { way: 'inbound' }, action: 'monitor' }],
    outbound: false,
    seconds: oneHour,
  },
  {
    name: 'disallowed-ssh',
    rules: ['Disallowed SSH Connection'],
    never: false,
    cases: [{ when: {}, action: 'monitor' }],
    outbound: false,
    seconds: oneHour,
  },
  {
    // Its ports include 443, and public git hosts offer SSH there.
    name: 'ssh-odd-port',
    rules: ['Disallowed SSH Connection Non Standard Port'],
    never: false,
    cases: [{ when: {}, action: 'monitor' }],
    outbound: false,
    seconds: oneHour,
  },
  {
    // The list of ports holds 25, 80, 443, 8000, 8080 and 8888: never by the port alone.
    name: 'miner-pools',
    rules: ['Detect outbound connections to common miner pool ports'],
    never: false,
    cases: [{ when: { way: 'outbound' }, action: 'monitor' }],
    outbound: true,
    seconds: oneHour,
  },
  {
    name: 'java-class-download',
    rules: ['Java Process Class File Download'],
    never: false,
    cases: [{ when: {}, action: 'monitor' }],
    outbound: false,
    seconds: oneHour,
  },
  {
    // Shells with /dev/tcp, HTTP/3 and STUN, every API and every client of a Python program, every visitor of a web server.
    name: 'noisy-network',
    rules: [
      'System procs network activity',
      'Unexpected UDP Traffic',
      'Network Connection outside Local Subnet',
      'Unexpected inbound connection source',
      'Unexpected outbound connection destination',
      'Interpreted procs inbound network activity',
      'Interpreted procs outbound network activity',
    ],
    never: false,
    cases: [],
    outbound: false,
    seconds: oneHour,
  },
  {
    // The other side is the cluster's or the cloud's own service.
    name: 'infrastructure',
    rules: [
      'Contact K8S API Server From Container',
      'Contact EC2 Instance Metadata Service From Container',
      'Contact cloud metadata service from container',
    ],
    never: true,
    cases: [],
    outbound: false,
    seconds: oneHour,
  },
];
