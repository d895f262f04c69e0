"""Tables, migrations, transactions and queries; rows stay inside, the types of `reviews` leave."""
