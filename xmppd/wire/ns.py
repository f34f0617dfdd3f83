"""XML namespaces, each under the name that the specifications use for its protocol."""

from typing import Final

# RFC 6120 and RFC 6121
STREAM: Final = "http://etherx.jabber.org/streams"
CLIENT: Final = "jabber:client"
SERVER: Final = "jabber:server"
TLS: Final = "urn:ietf:params:xml:ns:xmpp-tls"
SASL: Final = "urn:ietf:params:xml:ns:xmpp-sasl"
SASL2: Final = "urn:xmpp:sasl:2"  # XEP-0388
BIND2: Final = "urn:xmpp:bind:0"  # XEP-0386
FAST: Final = "urn:xmpp:fast:0"  # XEP-0484
IAP: Final = "urn:xmpp:iap:0"  # XEP-0509
SASL_UPGRADE: Final = "urn:xmpp:sasl:upgrade:0"  # XEP-0480
SCRAM_UPGRADE: Final = "urn:xmpp:scram-upgrade:0"
MANAGE_CLIENTS: Final = "xmpp:prosody.im/protocol/manage-clients"
CAM: Final = "urn:xmpp:cam:0"  # XEP-0494
BIND: Final = "urn:ietf:params:xml:ns:xmpp-bind"
SESSION: Final = "urn:ietf:params:xml:ns:xmpp-session"
STREAM_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-streams"
STANZA_ERRORS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"
ROSTER: Final = "jabber:iq:roster"
ROSTER_VERSIONING: Final = "urn:xmpp:features:rosterver"
PRE_APPROVAL: Final = "urn:xmpp:features:pre-approval"
XML: Final = "http://www.w3.org/XML/1998/namespace"

# XMPP extensions
DATA_FORMS: Final = "jabber:x:data"  # XEP-0004
LAST: Final = "jabber:iq:last"  # XEP-0012
DISCO_INFO: Final = "http://jabber.org/protocol/disco#info"  # XEP-0030
DISCO_ITEMS: Final = "http://jabber.org/protocol/disco#items"
PRIVATE: Final = "jabber:iq:private"  # XEP-0049
VCARD: Final = "vcard-temp"  # XEP-0054
REGISTER: Final = "jabber:iq:register"  # XEP-0077
REGISTER_FEATURE: Final = "http://jabber.org/features/iq-register"
VERSION: Final = "jabber:iq:version"  # XEP-0092
CAPS: Final = "http://jabber.org/protocol/caps"  # XEP-0115
OFFLINE: Final = "msgoffline"  # XEP-0160
BLOCKING: Final = "urn:xmpp:blocking"  # XEP-0191
BLOCKING_ERRORS: Final = "urn:xmpp:blocking:errors"
SM: Final = "urn:xmpp:sm:3"  # XEP-0198
PING: Final = "urn:xmpp:ping"  # XEP-0199
TIME: Final = "urn:xmpp:time"  # XEP-0202
DELAY: Final = "urn:xmpp:delay"  # XEP-0203
CARBONS: Final = "urn:xmpp:carbons:2"  # XEP-0280
FORWARD: Final = "urn:xmpp:forward:0"  # XEP-0297
HINTS: Final = "urn:xmpp:hints"  # XEP-0334
RSM: Final = "http://jabber.org/protocol/rsm"  # XEP-0059
FORM_VALIDATION: Final = "http://jabber.org/protocol/xdata-validate"  # XEP-0122
MAM: Final = "urn:xmpp:mam:2"  # XEP-0313
MAM_EXTENDED: Final = "urn:xmpp:mam:2#extended"
CSI: Final = "urn:xmpp:csi:0"  # XEP-0352
REACTIONS: Final = "urn:xmpp:reactions:0"  # XEP-0444
RETRACTION: Final = "urn:xmpp:message-retract:1"  # XEP-0424
STANZA_ID: Final = "urn:xmpp:sid:0"  # XEP-0359
CHANNEL_BINDING: Final = "urn:xmpp:sasl-cb:0"  # XEP-0440
STREAM_LIMITS: Final = "urn:xmpp:stream-limits:0"  # XEP-0478
CHAT_STATES: Final = "http://jabber.org/protocol/chatstates"  # XEP-0085
RECEIPTS: Final = "urn:xmpp:receipts"  # XEP-0184
SERVER_INFO: Final = "http://jabber.org/network/serverinfo"  # XEP-0157
REPORTING: Final = "urn:xmpp:reporting:1"  # XEP-0377
CARBONS_RULES: Final = "urn:xmpp:carbons:rules:0"  # XEP-0280
CHAT_MARKERS: Final = "urn:xmpp:chat-markers:0"  # XEP-0333
ENCRYPTION: Final = "urn:xmpp:eme:0"  # XEP-0380
OMEMO_LEGACY: Final = "eu.siacs.conversations.axolotl"  # XEP-0384, as first deployed
OMEMO: Final = "urn:xmpp:omemo:2"
OPENPGP: Final = "urn:xmpp:openpgp:0"  # XEP-0373
OPENPGP_LEGACY: Final = "jabber:x:encrypted"  # XEP-0027
JINGLE_MESSAGE: Final = "urn:xmpp:jingle-message:0"  # XEP-0353
CONFERENCE: Final = "jabber:x:conference"  # XEP-0249
MUC_USER: Final = "http://jabber.org/protocol/muc#user"  # XEP-0045
PIE: Final = "urn:xmpp:pie:0"  # XEP-0227
PIE_SCRAM: Final = "urn:xmpp:pie:0#scram"
PIE_MAM: Final = "urn:xmpp:pie:0#mam"
PRIVACY: Final = "jabber:iq:privacy"  # XEP-0016, only in exports
XINCLUDE: Final = "http://www.w3.org/2001/XInclude"
