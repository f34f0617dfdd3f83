"""Federation: the streams between this server and others (RFC 6120, RFC 7590).

`finding` tells where the server of a domain is, `connecting` gets a connection to it, and `outgoing` opens a stream on
that; `incoming` answers the streams of others. Both are `stream.ServerStream`, which takes and gives stanzas. Who a
peer is, `trust` tells by certificates and `dialback` by calling back. `link` has what is on its way from one of our
domains to one of another server, and `federation` holds all of it together.
"""
