"""What is on its way to other servers."""


def test_stanzas_come_back_in_the_order_of_their_ids(store, pump):
    for id in (3, 1, 2):
        pump.run(store.outbox.append(id, id * 10, b"<message/>" * id))
    first = pump.run(store.outbox.page(0, 2))
    assert [(row.id, row.received, row.stanza) for row in first] == [
        (1, 10, b"<message/>"), (2, 20, b"<message/>" * 2),
    ]  # fmt: skip
    assert [row.id for row in pump.run(store.outbox.page(2, 2))] == [3]


def test_those_that_have_arrived_are_forgotten(store, pump):
    for id in (1, 2, 3):
        pump.run(store.outbox.append(id, 1, b"<message/>"))
    pump.run(store.outbox.delete([1, 3, 99]))
    assert [row.id for row in pump.run(store.outbox.page(0, 10))] == [2]


def test_an_id_of_today_fits(store, pump):
    pump.run(store.outbox.append(1_900_000_000_000 << 20, 1_900_000_000_000, b"<message/>"))
    assert pump.run(store.outbox.page(0, 10))[0].id == 1_900_000_000_000 << 20
