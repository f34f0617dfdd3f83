"""What crosses the wire: JIDs, stanzas, errors, the XML stream. No sockets, no reactor, no clock."""
