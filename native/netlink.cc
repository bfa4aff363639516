// SPDX-License-Identifier: Apache-2.0
//
// rtnetlink by hand: RFC 3549 for the shape, linux/rtnetlink.h for the numbers. Nothing that comes
// in is trusted to have the length it says; a message that does not add up is EBADMSG.
#include "netlink.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/nexthop.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <optional>

#include "environment.h"
#include "error.h"
#include "fd.h"

namespace falcodrop {
namespace {

/** The kernel makes no dump message larger than 32 KiB (net/netlink/af_netlink.c, netlink_dump). */
constexpr size_t kReceiveSize = 64 * 1024;

/** Tries of a dump that the kernel says was disturbed (NLM_F_DUMP_INTR). */
constexpr int kDumpTries = 8;

/** RTNLGRP_NEXTHOP as RTMGRP_* are: rtnetlink.h stopped naming these at 31 groups. */
constexpr uint32_t kNextHopGroup = 1u << (RTNLGRP_NEXTHOP - 1);

/** rtnetlink answers within the system call; this only keeps a broken kernel from hanging us. */
constexpr int kReceiveTimeoutSeconds = 5;

// ---- attributes ----

struct Attribute {
  uint16_t type = 0;
  const uint8_t *data = nullptr;
  size_t length = 0;
};

/** A message's end that lies before its own header or beyond what was received. */
struct Malformed {};

uint32_t ReadU32(const Attribute &attribute) {
  if (attribute.length < sizeof(uint32_t))
    throw Malformed();
  uint32_t value;
  memcpy(&value, attribute.data, sizeof value);
  return value;
}

uint8_t ReadU8(const Attribute &attribute) {
  if (attribute.length < 1)
    throw Malformed();
  return attribute.data[0];
}

std::string ReadText(const Attribute &attribute) {
  const char *text = reinterpret_cast<const char *>(attribute.data);
  return std::string(text, strnlen(text, attribute.length));
}

void ForEachAttribute(const uint8_t *data, size_t length,
                      const std::function<void(const Attribute &)> &visit) {
  while (length >= sizeof(rtattr)) {
    rtattr header;
    memcpy(&header, data, sizeof header);
    if (header.rta_len < sizeof header || header.rta_len > length)
      throw Malformed();
    visit({static_cast<uint16_t>(header.rta_type & NLA_TYPE_MASK), data + RTA_LENGTH(0),
           header.rta_len - RTA_LENGTH(0)});
    const size_t step = std::min<size_t>(RTA_ALIGN(header.rta_len), length);
    data += step;
    length -= step;
  }
}

/** The family's fixed header, then its attributes. */
template <typename Header> Header ReadHeader(const uint8_t *data, size_t length) {
  if (length < sizeof(Header))
    throw Malformed();
  Header header;
  memcpy(&header, data, sizeof header);
  return header;
}

template <typename Header>
void ForEachAttributeAfter(const uint8_t *data, size_t length,
                           const std::function<void(const Attribute &)> &visit) {
  const size_t offset = std::min<size_t>(NLMSG_ALIGN(sizeof(Header)), length);
  ForEachAttribute(data + offset, length - offset, visit);
}

// ---- requests ----

/** A request being written: header, family header, attributes. */
class Request {
public:
  Request(uint16_t type, uint16_t flags) {
    nlmsghdr header = {};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(flags | NLM_F_REQUEST);
    header.nlmsg_seq = 1; // one request a socket
    Put(&header, sizeof header);
  }

  void Put(const void *data, size_t length) {
    const auto *from = static_cast<const uint8_t *>(data);
    bytes_.insert(bytes_.end(), from, from + length);
    bytes_.resize(NLMSG_ALIGN(bytes_.size()));
  }

  void PutAttribute(uint16_t type, const void *data, size_t length) {
    rtattr header = {};
    header.rta_type = type;
    header.rta_len = static_cast<uint16_t>(RTA_LENGTH(length));
    Put(&header, sizeof header);
    Put(data, length);
  }

  size_t OpenNest(uint16_t type) {
    const size_t at = bytes_.size();
    PutAttribute(static_cast<uint16_t>(type | NLA_F_NESTED), nullptr, 0);
    return at;
  }

  void CloseNest(size_t at) {
    const auto length = static_cast<uint16_t>(bytes_.size() - at);
    memcpy(bytes_.data() + at + offsetof(rtattr, rta_len), &length, sizeof length);
  }

  const std::vector<uint8_t> &Finish() {
    const auto length = static_cast<uint32_t>(bytes_.size());
    memcpy(bytes_.data() + offsetof(nlmsghdr, nlmsg_len), &length, sizeof length);
    return bytes_;
  }

private:
  std::vector<uint8_t> bytes_;
};

Fd OpenSocket(Napi::Env env, const char *operation, uint32_t groups) {
  Fd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.Valid())
    Fail(env, operation, errno, About("netlink socket"));
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = groups;
  if (bind(fd.Get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) < 0)
    Fail(env, operation, errno, About("netlink bind"));
  const int yes = 1;
  // The kernel's own sentence with an error, and not our request echoed before it
  // (Linux 4.12, 4.3).
  setsockopt(fd.Get(), SOL_NETLINK, NETLINK_EXT_ACK, &yes, sizeof yes);
  setsockopt(fd.Get(), SOL_NETLINK, NETLINK_CAP_ACK, &yes, sizeof yes);
  const timeval timeout = {kReceiveTimeoutSeconds, 0};
  setsockopt(fd.Get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
  return fd;
}

void SendRequest(Napi::Env env, const char *operation, int fd, const std::vector<uint8_t> &bytes) {
  sockaddr_nl kernel = {};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do
    sent = sendto(fd, bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr *>(&kernel),
                  sizeof kernel);
  while (sent < 0 && errno == EINTR);
  if (sent < 0)
    Fail(env, operation, errno, About("netlink send"));
}

/** One datagram from the kernel; what others send us is passed over. */
size_t Receive(Napi::Env env, const char *operation, int fd, std::vector<uint8_t> *buffer) {
  for (;;) {
    sockaddr_nl from = {};
    iovec part = {buffer->data(), buffer->size()};
    msghdr message = {};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t length = recvmsg(fd, &message, 0);
    if (length < 0 && errno == EINTR)
      continue;
    if (length < 0)
      Fail(env, operation, errno, About("netlink receive"));
    if (message.msg_namelen != sizeof from || from.nl_pid != 0)
      continue;
    if ((message.msg_flags & MSG_TRUNC) != 0)
      Fail(env, operation, EMSGSIZE, About("netlink message"));
    return static_cast<size_t>(length);
  }
}

/** Calls `visit(header, payload, length)` for each message; it returns false to stop. */
bool ForEachMessage(const uint8_t *data, size_t length,
                    const std::function<bool(const nlmsghdr &, const uint8_t *, size_t)> &visit) {
  while (length >= sizeof(nlmsghdr)) {
    nlmsghdr header;
    memcpy(&header, data, sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > length)
      throw Malformed();
    if (!visit(header, data + NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN))
      return false;
    const size_t step = std::min<size_t>(NLMSG_ALIGN(header.nlmsg_len), length);
    data += step;
    length -= step;
  }
  return true;
}

/** NLMSG_ERROR, or the end of a dump: a negative errno, then maybe the request, then attributes
 * with the sentence. */
Answer ReadAnswer(const nlmsghdr &header, const uint8_t *data, size_t length) {
  if (length < sizeof(int))
    throw Malformed();
  Answer answer;
  int error;
  memcpy(&error, data, sizeof error);
  answer.error = error < 0 ? -error : error;
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0)
    return answer;
  size_t offset = sizeof(int);
  if (header.nlmsg_type == NLMSG_ERROR) {
    const nlmsgerr said = ReadHeader<nlmsgerr>(data, length);
    offset = sizeof(nlmsgerr);
    if ((header.nlmsg_flags & NLM_F_CAPPED) == 0) {
      if (said.msg.nlmsg_len < sizeof(nlmsghdr))
        throw Malformed();
      offset += NLMSG_ALIGN(said.msg.nlmsg_len - sizeof(nlmsghdr));
    }
  }
  if (offset > length)
    throw Malformed();
  ForEachAttribute(data + offset, length - offset, [&](const Attribute &attribute) {
    if (attribute.type == NLMSGERR_ATTR_MSG)
      answer.sentence = ReadText(attribute);
  });
  return answer;
}

using Visit = std::function<void(const uint8_t *, size_t)>;

/** One try of a dump. False when it was disturbed and has to be done again. */
bool DumpOnce(Napi::Env env, const char *operation, Request request, uint16_t answerType,
              const Visit &visit) {
  const Fd fd = OpenSocket(env, operation, 0);
  SendRequest(env, operation, fd.Get(), request.Finish());
  std::vector<uint8_t> buffer(kReceiveSize);
  bool disturbed = false;
  bool done = false;
  while (!done) {
    const size_t length = Receive(env, operation, fd.Get(), &buffer);
    ForEachMessage(
        buffer.data(), length, [&](const nlmsghdr &header, const uint8_t *data, size_t size) {
          if (header.nlmsg_seq != 1)
            return true;
          disturbed = disturbed || (header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
          if (header.nlmsg_type == NLMSG_DONE || header.nlmsg_type == NLMSG_ERROR) {
            // NLMSG_DONE carries an errno since always; some families leave it out.
            const Answer answer = size >= sizeof(int) ? ReadAnswer(header, data, size) : Answer();
            if (answer.error != 0)
              Fail(env, operation, answer.error, About(answer.sentence));
            done = true;
            return false;
          }
          if (header.nlmsg_type == answerType)
            visit(data, size);
          return true;
        });
  }
  return !disturbed;
}

/** Repeats `once` until the tables held still during it. */
void Undisturbed(Napi::Env env, const char *operation, const std::function<bool()> &once) {
  try {
    for (int attempt = 0; attempt < kDumpTries; attempt++)
      if (once())
        return;
  } catch (const Malformed &) {
    Fail(env, operation, EBADMSG, About("netlink message"));
  }
  Fail(env, operation, EAGAIN, About("the tables changed during every try"));
}

/** A request with one answer. */
Answer Ask(Napi::Env env, const char *operation, Request request, const Visit &visit) {
  const Fd fd = OpenSocket(env, operation, 0);
  SendRequest(env, operation, fd.Get(), request.Finish());
  std::vector<uint8_t> buffer(kReceiveSize);
  std::optional<Answer> answer;
  try {
    while (!answer) {
      const size_t length = Receive(env, operation, fd.Get(), &buffer);
      ForEachMessage(buffer.data(), length,
                     [&](const nlmsghdr &header, const uint8_t *data, size_t size) {
                       if (header.nlmsg_seq != 1)
                         return true;
                       if (header.nlmsg_type == NLMSG_ERROR) {
                         answer = ReadAnswer(header, data, size);
                         return false;
                       }
                       visit(data, size);
                       return true;
                     });
    }
  } catch (const Malformed &) {
    Fail(env, operation, EBADMSG, About("netlink message"));
  }
  return *answer;
}

// ---- links ----

struct XdpState {
  uint8_t attached = XDP_ATTACHED_NONE;
  uint32_t single = 0;
  uint32_t native = 0;
  uint32_t generic = 0;
  uint32_t offload = 0;
};

struct LinkFacts {
  int ifindex = 0;
  std::string name;
  uint32_t flags = 0;
  uint32_t type = 0;
  uint32_t mtu = 0;
  std::optional<std::string> kind;
  uint32_t master = 0;
  uint32_t lower = 0;
  bool lowerElsewhere = false;
  uint32_t txQueues = 0;
  uint32_t rxQueues = 0;
  XdpState xdp;
};

XdpState ReadXdp(const Attribute &nest) {
  XdpState state;
  ForEachAttribute(nest.data, nest.length, [&](const Attribute &attribute) {
    switch (attribute.type) {
    case IFLA_XDP_ATTACHED:
      state.attached = ReadU8(attribute);
      break;
    case IFLA_XDP_PROG_ID:
      state.single = ReadU32(attribute);
      break;
    case IFLA_XDP_DRV_PROG_ID:
      state.native = ReadU32(attribute);
      break;
    case IFLA_XDP_SKB_PROG_ID:
      state.generic = ReadU32(attribute);
      break;
    case IFLA_XDP_HW_PROG_ID:
      state.offload = ReadU32(attribute);
      break;
    default:
      break;
    }
  });
  return state;
}

LinkFacts ReadLink(const uint8_t *data, size_t length) {
  const ifinfomsg header = ReadHeader<ifinfomsg>(data, length);
  LinkFacts link;
  link.ifindex = header.ifi_index;
  link.flags = header.ifi_flags;
  link.type = header.ifi_type;
  ForEachAttributeAfter<ifinfomsg>(data, length, [&](const Attribute &attribute) {
    switch (attribute.type) {
    case IFLA_IFNAME:
      link.name = ReadText(attribute);
      break;
    case IFLA_MTU:
      link.mtu = ReadU32(attribute);
      break;
    case IFLA_MASTER:
      link.master = ReadU32(attribute);
      break;
    case IFLA_LINK:
      link.lower = ReadU32(attribute);
      break;
    case IFLA_LINK_NETNSID:
      link.lowerElsewhere = true;
      break;
    case IFLA_NUM_TX_QUEUES:
      link.txQueues = ReadU32(attribute);
      break;
    case IFLA_NUM_RX_QUEUES:
      link.rxQueues = ReadU32(attribute);
      break;
    case IFLA_LINKINFO:
      ForEachAttribute(attribute.data, attribute.length, [&](const Attribute &inner) {
        if (inner.type == IFLA_INFO_KIND)
          link.kind = ReadText(inner);
      });
      break;
    case IFLA_XDP:
      link.xdp = ReadXdp(attribute);
      break;
    default:
      break;
    }
  });
  return link;
}

void PutSkipStats(Request *request) {
  const uint32_t mask = RTEXT_FILTER_SKIP_STATS;
  request->PutAttribute(IFLA_EXT_MASK, &mask, sizeof mask);
}

Napi::Object ToObject(Napi::Env env, const LinkFacts &link) {
  static constexpr const char *kModes[] = {"none", "native", "generic", "offload", "multi"};
  const XdpState &xdp = link.xdp;
  Napi::Object hook = Napi::Object::New(env);
  hook.Set("mode", xdp.attached < std::size(kModes) ? kModes[xdp.attached] : "multi");
  // With several modes at once there is no single id: the program that sees a packet first.
  const uint32_t programs[] = {xdp.single, xdp.offload, xdp.native, xdp.generic};
  const uint32_t *first =
      std::find_if(std::begin(programs), std::end(programs), [](uint32_t id) { return id != 0; });
  hook.Set("programId", first == std::end(programs) ? 0 : *first);

  Napi::Object result = Napi::Object::New(env);
  result.Set("ifindex", link.ifindex);
  result.Set("name", link.name);
  result.Set("flags", link.flags);
  result.Set("type", link.type);
  result.Set("mtu", link.mtu);
  if (link.kind)
    result.Set("kind", *link.kind);
  else
    result.Set("kind", env.Null());
  result.Set("master", link.master);
  result.Set("lower", link.lower);
  result.Set("lowerElsewhere", Napi::Boolean::New(env, link.lowerElsewhere));
  result.Set("txQueues", link.txQueues);
  result.Set("rxQueues", link.rxQueues);
  result.Set("xdp", hook);
  return result;
}

// ---- addresses and routes ----

struct Address {
  std::array<uint8_t, 16> bytes = {};
  size_t length = 0;
};

Napi::Buffer<uint8_t> ToBuffer(Napi::Env env, const Address &address) {
  return Napi::Buffer<uint8_t>::Copy(env, address.bytes.data(), address.length);
}

size_t AddressLength(int family) {
  return family == AF_INET ? 4 : 16;
}

int FamilyNumber(int family) {
  return family == AF_INET ? 4 : 6;
}

Address ReadAddress(const uint8_t *data, size_t available, int family) {
  Address address;
  address.length = AddressLength(family);
  if (available < address.length)
    throw Malformed();
  memcpy(address.bytes.data(), data, address.length);
  return address;
}

struct AddressFacts {
  uint32_t ifindex = 0;
  int family = 0;
  Address address;
  uint8_t prefixLength = 0;
  uint8_t scope = 0;
};

std::optional<AddressFacts> ReadInterfaceAddress(const uint8_t *data, size_t length) {
  const ifaddrmsg header = ReadHeader<ifaddrmsg>(data, length);
  if (header.ifa_family != AF_INET && header.ifa_family != AF_INET6)
    return std::nullopt;
  // On point-to-point links IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has IFA_LOCAL only
  // there.
  std::optional<Address> local;
  std::optional<Address> address;
  ForEachAttributeAfter<ifaddrmsg>(data, length, [&](const Attribute &attribute) {
    if (attribute.type == IFA_LOCAL)
      local = ReadAddress(attribute.data, attribute.length, header.ifa_family);
    else if (attribute.type == IFA_ADDRESS)
      address = ReadAddress(attribute.data, attribute.length, header.ifa_family);
  });
  if (!local && !address)
    return std::nullopt;
  AddressFacts facts;
  facts.ifindex = header.ifa_index;
  facts.family = header.ifa_family;
  facts.address = local ? *local : *address;
  facts.prefixLength = header.ifa_prefixlen;
  facts.scope = header.ifa_scope;
  return facts;
}

struct NextHop {
  uint32_t ifindex = 0;
  std::optional<Address> gateway;
};

struct RouteFacts {
  int family = 0;
  uint8_t type = 0;
  uint32_t table = 0;
  Address destination;
  uint8_t prefixLength = 0;
  uint8_t scope = 0;
  std::vector<NextHop> nextHops;
  /** Of a nexthop object (Linux 5.3), 0 = none. */
  uint32_t nextHopId = 0;
};

/** A nexthop object: a hop of its own, or a group of others'. */
struct NextHopObject {
  NextHop hop;
  std::vector<uint32_t> group;
};

using NextHopObjects = std::map<uint32_t, NextHopObject>;

/** RTA_GATEWAY, of the route's family, or RTA_VIA, which brings its own (RFC 5549 routes). */
void ReadGateway(const Attribute &attribute, int family, std::optional<Address> *gateway) {
  if (attribute.type == RTA_GATEWAY) {
    *gateway = ReadAddress(attribute.data, attribute.length, family);
  } else if (attribute.type == RTA_VIA) {
    rtvia via;
    if (attribute.length < offsetof(rtvia, rtvia_addr))
      throw Malformed();
    memcpy(&via, attribute.data, offsetof(rtvia, rtvia_addr));
    if (via.rtvia_family == AF_INET || via.rtvia_family == AF_INET6)
      *gateway = ReadAddress(attribute.data + offsetof(rtvia, rtvia_addr),
                             attribute.length - offsetof(rtvia, rtvia_addr), via.rtvia_family);
  }
}

void ReadMultipath(const Attribute &attribute, int family, std::vector<NextHop> *hops) {
  const uint8_t *data = attribute.data;
  size_t length = attribute.length;
  while (length >= sizeof(rtnexthop)) {
    rtnexthop header;
    memcpy(&header, data, sizeof header);
    if (header.rtnh_len < sizeof header || header.rtnh_len > length)
      throw Malformed();
    NextHop hop;
    hop.ifindex = static_cast<uint32_t>(header.rtnh_ifindex);
    const size_t offset = std::min<size_t>(RTNH_LENGTH(0), header.rtnh_len);
    ForEachAttribute(data + offset, header.rtnh_len - offset,
                     [&](const Attribute &inner) { ReadGateway(inner, family, &hop.gateway); });
    hops->push_back(hop);
    const size_t step = std::min<size_t>(RTNH_ALIGN(header.rtnh_len), length);
    data += step;
    length -= step;
  }
}

RouteFacts ReadRoute(const uint8_t *data, size_t length) {
  const rtmsg header = ReadHeader<rtmsg>(data, length);
  RouteFacts route;
  route.family = header.rtm_family;
  route.type = header.rtm_type;
  route.table = header.rtm_table;
  route.prefixLength = header.rtm_dst_len;
  route.scope = header.rtm_scope;
  route.destination.length = AddressLength(header.rtm_family); // a default route has no RTA_DST
  NextHop single;
  bool hasSingle = false;
  ForEachAttributeAfter<rtmsg>(data, length, [&](const Attribute &attribute) {
    switch (attribute.type) {
    case RTA_TABLE: // tables above 255 do not fit into the header
      route.table = ReadU32(attribute);
      break;
    case RTA_DST:
      route.destination = ReadAddress(attribute.data, attribute.length, header.rtm_family);
      break;
    case RTA_OIF:
      single.ifindex = ReadU32(attribute);
      hasSingle = true;
      break;
    case RTA_GATEWAY:
    case RTA_VIA:
      ReadGateway(attribute, header.rtm_family, &single.gateway);
      hasSingle = true;
      break;
    case RTA_MULTIPATH:
      ReadMultipath(attribute, header.rtm_family, &route.nextHops);
      break;
    case RTA_NH_ID:
      route.nextHopId = ReadU32(attribute);
      break;
    default:
      break;
    }
  });
  if (hasSingle)
    route.nextHops.insert(route.nextHops.begin(), single);
  return route;
}

void ReadNextHopObject(const uint8_t *data, size_t length, NextHopObjects *objects) {
  const nhmsg header = ReadHeader<nhmsg>(data, length);
  uint32_t id = 0;
  NextHopObject object;
  ForEachAttributeAfter<nhmsg>(data, length, [&](const Attribute &attribute) {
    switch (attribute.type) {
    case NHA_ID:
      id = ReadU32(attribute);
      break;
    case NHA_OIF:
      object.hop.ifindex = ReadU32(attribute);
      break;
    case NHA_GATEWAY:
      object.hop.gateway = ReadAddress(attribute.data, attribute.length, header.nh_family);
      break;
    case NHA_GROUP:
      for (size_t at = 0; at + sizeof(nexthop_grp) <= attribute.length; at += sizeof(nexthop_grp)) {
        nexthop_grp member;
        memcpy(&member, attribute.data + at, sizeof member);
        object.group.push_back(member.id);
      }
      break;
    default:
      break;
    }
  });
  (*objects)[id] = std::move(object);
}

NextHopObjects DumpNextHopObjects(Napi::Env env) {
  NextHopObjects objects;
  Undisturbed(env, "routes", [&] {
    objects.clear();
    Request request(RTM_GETNEXTHOP, NLM_F_DUMP);
    const nhmsg header = {};
    request.Put(&header, sizeof header);
    return DumpOnce(
        env, "routes", std::move(request), RTM_NEWNEXTHOP,
        [&](const uint8_t *data, size_t length) { ReadNextHopObject(data, length, &objects); });
  });
  return objects;
}

/** A group holds hops and no groups (net/ipv4/nexthop.c, nh_check_attr_group). */
void AddNextHops(const NextHopObjects &objects, uint32_t id, std::vector<NextHop> *hops) {
  const auto found = objects.find(id);
  if (found == objects.end())
    return;
  if (found->second.group.empty())
    hops->push_back(found->second.hop);
  for (const uint32_t member : found->second.group) {
    const auto inner = objects.find(member);
    if (inner != objects.end() && inner->second.group.empty())
      hops->push_back(inner->second.hop);
  }
}

/**
 * With net.ipv4.nexthop_compat_mode=0, which routing daemons want, a route says the id of its
 * nexthop object and no hop.
 */
void ResolveNextHops(Napi::Env env, std::vector<RouteFacts> *routes) {
  std::optional<NextHopObjects> objects;
  for (RouteFacts &route : *routes) {
    if (route.nextHopId == 0 || !route.nextHops.empty())
      continue;
    if (!objects)
      objects = DumpNextHopObjects(env);
    AddNextHops(*objects, route.nextHopId, &route.nextHops);
  }
}

Napi::Object ToObject(Napi::Env env, const RouteFacts &route) {
  Napi::Array hops = Napi::Array::New(env, route.nextHops.size());
  for (uint32_t i = 0; i < route.nextHops.size(); i++) {
    Napi::Object hop = Napi::Object::New(env);
    hop.Set("ifindex", route.nextHops[i].ifindex);
    if (route.nextHops[i].gateway)
      hop.Set("gateway", ToBuffer(env, *route.nextHops[i].gateway));
    else
      hop.Set("gateway", env.Null());
    hops.Set(i, hop);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("family", FamilyNumber(route.family));
  result.Set("type", route.type);
  result.Set("table", route.table);
  result.Set("destination", ToBuffer(env, route.destination));
  result.Set("prefixLength", route.prefixLength);
  result.Set("scope", route.scope);
  result.Set("nextHops", hops);
  return result;
}

// ---- the methods ----

template <typename Facts, typename Convert>
Napi::Array ToArray(Napi::Env env, const std::vector<Facts> &all, Convert convert) {
  Napi::Array result = Napi::Array::New(env, all.size());
  for (uint32_t i = 0; i < all.size(); i++) {
    const Napi::HandleScope scope(env);
    result.Set(i, convert(all[i]));
  }
  return result;
}

Napi::Value Links(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  std::vector<LinkFacts> links;
  Undisturbed(env, "links", [&] {
    links.clear();
    Request request(RTM_GETLINK, NLM_F_DUMP);
    const ifinfomsg header = {};
    request.Put(&header, sizeof header);
    PutSkipStats(&request);
    return DumpOnce(
        env, "links", std::move(request), RTM_NEWLINK,
        [&](const uint8_t *data, size_t length) { links.push_back(ReadLink(data, length)); });
  });
  return ToArray(env, links, [&](const LinkFacts &link) { return ToObject(env, link); });
}

Napi::Value Addresses(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  std::vector<AddressFacts> addresses;
  Undisturbed(env, "addresses", [&] {
    addresses.clear();
    Request request(RTM_GETADDR, NLM_F_DUMP);
    const ifaddrmsg header = {};
    request.Put(&header, sizeof header);
    return DumpOnce(env, "addresses", std::move(request), RTM_NEWADDR,
                    [&](const uint8_t *data, size_t length) {
                      if (const auto address = ReadInterfaceAddress(data, length))
                        addresses.push_back(*address);
                    });
  });
  return ToArray(env, addresses, [&](const AddressFacts &address) {
    Napi::Object result = Napi::Object::New(env);
    result.Set("ifindex", address.ifindex);
    result.Set("family", FamilyNumber(address.family));
    result.Set("address", ToBuffer(env, address.address));
    result.Set("prefixLength", address.prefixLength);
    result.Set("scope", address.scope);
    return result;
  });
}

Napi::Value Routes(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  std::vector<RouteFacts> routes;
  for (const int family : {AF_INET, AF_INET6}) {
    const size_t before = routes.size();
    Undisturbed(env, "routes", [&] {
      routes.resize(before);
      Request request(RTM_GETROUTE, NLM_F_DUMP);
      rtmsg header = {};
      header.rtm_family = static_cast<uint8_t>(family);
      request.Put(&header, sizeof header);
      return DumpOnce(env, "routes", std::move(request), RTM_NEWROUTE,
                      [&](const uint8_t *data, size_t length) {
                        // A kernel without IPv6 answers with every family it has.
                        if (ReadHeader<rtmsg>(data, length).rtm_family == family)
                          routes.push_back(ReadRoute(data, length));
                      });
    });
  }
  ResolveNextHops(env, &routes);
  return ToArray(env, routes, [&](const RouteFacts &route) { return ToObject(env, route); });
}

// ---- watching ----

class Watch : public Handle<Watch> {
public:
  static constexpr Class kClass = Class::Watch;
  static constexpr const char *kName = "Watch";
  static constexpr napi_type_tag kTag = {0x2f90c7de4b1a4385, 0xb7683d0ea5c219f4};

  struct Parts {
    Fd fd;
    Napi::FunctionReference onChange;
  };

  static void Define(Napi::Env env) {
    Handle::Define(env, {InstanceMethod("close", &Watch::Close)});
  }

  explicit Watch(const Napi::CallbackInfo &info) : Handle(info), parts_(TakeParts<Parts>()) {
    int error = 0;
    poll_ = LoopPoll::Start(
        Handles(), parts_.fd.Get(), false, [this] { OnReadable(); }, &error);
    if (poll_ == nullptr)
      Fail(info.Env(), "watch", error);
    Ref(); // a source of events lives until close(), whoever holds it
  }

  void Release() noexcept {
    if (poll_ != nullptr)
      std::exchange(poll_, nullptr)->Close();
    parts_.fd.Reset();
    parts_.onChange.Reset(); // it mostly refers to this object: a cycle that no collector sees
    uint32_t count = 0;
    napi_reference_unref(Env(), *this, &count);
  }

private:
  /** Events in one loop turn; more come in the next. */
  static constexpr int kMostPerTurn = 1024;

  void OnReadable() noexcept {
    // What changed does not matter, only that something did: the events themselves are thrown away.
    // ENOBUFS means that some were lost, which is a change too.
    bool changed = false;
    for (int i = 0; i < kMostPerTurn; i++) {
      char byte;
      if (recv(parts_.fd.Get(), &byte, sizeof byte, MSG_DONTWAIT | MSG_TRUNC) >= 0 ||
          errno == ENOBUFS) {
        changed = true;
        continue;
      }
      if (errno != EINTR)
        break;
    }
    if (!changed)
      return;
    const Napi::Env env = Env();
    napi_handle_scope scope = nullptr;
    if (napi_open_handle_scope(env, &scope) != napi_ok)
      return;
    CallFromLoop(env, parts_.onChange, {}); // may close us; nothing of ours is touched afterwards
    napi_close_handle_scope(env, scope);
  }

  Parts parts_;
  LoopPoll *poll_ = nullptr;
};

Napi::Value StartWatch(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  const Napi::Function onChange = RequireFunction(info[0], "onChange");
  Watch::Parts parts;
  parts.fd = OpenSocket(env, "watch",
                        RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
                            RTMGRP_IPV6_ROUTE | kNextHopGroup);
  parts.onChange = Napi::Persistent(onChange);
  return Watch::Create(env, std::move(parts));
}

} // namespace

Answer SetXdp(Napi::Env env, const char *operation, int ifindex, int programFd, uint32_t flags,
              int expectedFd) {
  Request request(RTM_SETLINK, NLM_F_ACK);
  ifinfomsg header = {};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = ifindex;
  request.Put(&header, sizeof header);
  const size_t nest = request.OpenNest(IFLA_XDP);
  request.PutAttribute(IFLA_XDP_FD, &programFd, sizeof programFd);
  request.PutAttribute(IFLA_XDP_FLAGS, &flags, sizeof flags);
  if (expectedFd >= 0)
    request.PutAttribute(IFLA_XDP_EXPECTED_FD, &expectedFd, sizeof expectedFd);
  request.CloseNest(nest);
  return Ask(env, operation, std::move(request), [](const uint8_t *, size_t) {});
}

std::vector<uint32_t> XdpProgramsOf(Napi::Env env, const char *operation, int ifindex) {
  Request request(RTM_GETLINK, NLM_F_ACK);
  ifinfomsg header = {};
  header.ifi_family = AF_UNSPEC;
  header.ifi_index = ifindex;
  request.Put(&header, sizeof header);
  PutSkipStats(&request);
  LinkFacts link;
  const Answer answer =
      Ask(env, operation, std::move(request),
          [&](const uint8_t *data, size_t length) { link = ReadLink(data, length); });
  if (answer.error != 0)
    Fail(env, operation, answer.error, About("interface " + std::to_string(ifindex)));
  std::vector<uint32_t> programs;
  for (const uint32_t id : {link.xdp.single, link.xdp.native, link.xdp.generic, link.xdp.offload})
    if (id != 0)
      programs.push_back(id);
  return programs;
}

void DefineWatch(Napi::Env env) {
  Watch::Define(env);
}

Napi::Object MakeNetlink(Napi::Env env) {
  Napi::Object result = Napi::Object::New(env);
  result.Set("links", Napi::Function::New<Links>(env, "links"));
  result.Set("addresses", Napi::Function::New<Addresses>(env, "addresses"));
  result.Set("routes", Napi::Function::New<Routes>(env, "routes"));
  result.Set("watch", Napi::Function::New<StartWatch>(env, "watch"));
  return result;
}

} // namespace falcodrop
